//! A value that conforms to a JSON schema: what a model that obeys would write.

use serde_json::{Map, Value, json};

/// Depth at which recursive schemas end.
const DEEPEST: usize = 12;

/// The smallest telling value that `schema` allows: every property is given, arrays have one item (more where the
/// schema wants more), names of types may be upper case (Google's are).
#[must_use]
pub fn instance(schema: &Value) -> Value {
    make(schema, schema, 0)
}

fn make(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(target) = schema["$ref"].as_str() {
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(Value::Null, |found| make(found, root, depth + 1));
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(value) = schema["enum"].as_array().and_then(|values| values.first()) {
        return value.clone();
    }
    for union in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[union].as_array().and_then(|choices| choices.first()) {
            return make(first, root, depth + 1);
        }
    }
    match kind(schema).as_str() {
        "object" => object(schema, root, depth),
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 16);
            (0..count).map(|_| make(&schema["items"], root, depth + 1)).collect()
        }
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(7)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(1.5)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => string(schema),
    }
}

/// The type, lower case; a list of types counts as its first.
fn kind(schema: &Value) -> String {
    let named = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        other => other.as_str(),
    };
    match named {
        Some(name) => name.to_ascii_lowercase(),
        None if schema["properties"].is_object() => "object".to_owned(),
        None if !schema["items"].is_null() => "array".to_owned(),
        None => "string".to_owned(),
    }
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let properties = schema["properties"].as_object();
    let members = properties.into_iter().flatten();
    let map: Map<_, _> = members.map(|(name, inner)| (name.clone(), make(inner, root, depth + 1))).collect();
    Value::Object(map)
}

fn string(schema: &Value) -> Value {
    match schema["format"].as_str() {
        Some("date") => json!("2025-10-09"),
        Some("date-time") => json!("2025-10-09T08:53:20Z"),
        Some("email") => json!("envoy@example.com"),
        Some("uri") => json!("https://example.com/"),
        Some("uuid") => json!("123e4567-e89b-42d3-a456-426614174000"),
        _ => {
            let least = schema["minLength"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            json!(format!("{:a<least$}", "Genève"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_given() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}, "unit": {"enum": ["C", "F"]},
            "spots": {"type": "array", "items": {"$ref": "#/$defs/Spot"}}, "maybe": {"type": ["number", "null"]},
            "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}},
            "$defs": {"Spot": {"type": "OBJECT", "properties": {"at": {"type": "STRING", "format": "date"}}}}});
        let want = json!({"city": "Genève", "days": 3, "unit": "C", "spots": [{"at": "2025-10-09"}], "maybe": 1.5,
            "either": true});
        assert_eq!(instance(&schema), want);
    }

    #[test]
    fn a_schema_that_holds_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema)["next"]["next"].is_object());
    }
}
