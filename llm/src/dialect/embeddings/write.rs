//! Requests.

use serde_json::{Map, Value, json};

use super::{Asked, Form};
use crate::contract::DeploymentMeta;
use crate::dialect::fields::{Object, set};
use crate::dialect::translate::Sent;
use crate::error::{ApiError, mask_secrets};

/// What a client said, OpenAI's members taken apart from the provider's.
#[derive(Debug)]
struct Request {
    texts: Vec<String>,
    dimensions: Option<u64>,
    /// Members that the provider may have.
    extra: Object,
}

/// Writes a request for a deployment; `client_model`: the model as the client named it.
///
/// # Errors
/// 400, naming the field: what OpenAI's dialect does not allow, or the model has no words for.
pub fn write(body: &[u8], meta: &DeploymentMeta, client_model: &str) -> Result<(Sent, Asked), ApiError> {
    let form = Form::of(meta).ok_or_else(|| {
        let message = format!("'{client_model}' is not a model for embeddings that is known here.");
        ApiError::invalid_request(mask_secrets(&message), Some("model"))
    })?;
    let mut members = Object::of_body(body)?;
    for name in &meta.params.also_drop {
        members.take(name);
    }
    let texts = texts(members.take("input"))?;
    if form.is_single() && texts.len() != 1 {
        let message =
            format!("'{client_model}' takes one input per request, and this one has {}.", texts.len());
        return Err(ApiError::invalid_request(mask_secrets(&message), Some("input")));
    }
    let format = members.text("encoding_format")?;
    let base64 = match format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let message = "Invalid value for 'encoding_format': expected 'float' or 'base64'.";
            return Err(ApiError::invalid_request(message, Some("encoding_format")));
        }
    };
    let dimensions = members.count("dimensions")?;
    let bytes = texts.iter().map(String::len).fold(0, usize::saturating_add);
    let estimate = u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX);
    let asked = Asked { form, base64, inputs: texts.len(), estimate, model: client_model.to_owned() };
    let mut out = Request { texts, dimensions, extra: members }.written(form, meta, client_model)?;
    for (name, value) in &meta.params.extra_body {
        set(&mut out, name, value.clone());
    }
    Ok((Sent { body: out.to_string().into_bytes(), ..Sent::default() }, asked))
}

/// `input`: a text or several. Tokens of OpenAI's mean nothing to other models.
fn texts(input: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = |message: &'static str| ApiError::invalid_request(message, Some("input"));
    let items = match input {
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong("Invalid value for 'input': expected a string or an array of strings.")),
        None => return Err(wrong("Missing required parameter: 'input'.")),
    };
    let text = |item: Value| match item {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err(wrong("Invalid value for 'input': a text in it is empty.")),
        Value::Number(_) | Value::Array(_) => {
            Err(wrong("Invalid value for 'input': this model takes texts, not tokens."))
        }
        _ => Err(wrong("Invalid value for 'input': expected a string or an array of strings.")),
    };
    let texts = items.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() {
        return Err(wrong("Invalid value for 'input': it is empty."));
    }
    Ok(texts)
}

impl Request {
    /// A member under one of its names.
    fn take(&mut self, names: &[&str]) -> Option<Value> {
        names.iter().find_map(|name| self.extra.take(name))
    }

    fn written(mut self, form: Form, meta: &DeploymentMeta, model: &str) -> Result<Value, ApiError> {
        Ok(match form {
            Form::Gemini => self.gemini(&meta.model),
            Form::Predict => self.predict(),
            Form::EmbedContent => self.embed_content(),
            Form::Titan => self.titan(meta, model)?,
            Form::TitanImage => self.titan_image(),
            Form::Cohere => self.cohere(meta, model)?,
            Form::Nova => self.nova(),
        })
    }

    fn gemini(&mut self, model: &str) -> Value {
        let name = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
        let task = self.take(&["taskType", "task_type"]);
        let title = self.take(&["title"]);
        let request = |text: &String| {
            let mut request = json!({ "model": name, "content": { "parts": [{ "text": text }] } });
            if let Some(members) = request.as_object_mut() {
                put(members, "taskType", task.clone());
                put(members, "title", title.clone());
                put(members, "outputDimensionality", self.dimensions);
            }
            request
        };
        let requests: Vec<Value> = self.texts.iter().map(request).collect();
        json!({ "requests": requests })
    }

    fn predict(&mut self) -> Value {
        let task = self.take(&["task_type", "taskType"]);
        let title = self.take(&["title"]);
        let instance = |text: &String| {
            let mut instance = json!({ "content": text });
            if let Some(members) = instance.as_object_mut() {
                put(members, "task_type", task.clone());
                put(members, "title", title.clone());
            }
            instance
        };
        let instances: Vec<Value> = self.texts.iter().map(instance).collect();
        let mut parameters = Map::new();
        put(&mut parameters, "outputDimensionality", self.dimensions);
        put(&mut parameters, "autoTruncate", self.take(&["autoTruncate", "auto_truncate"]));
        let mut body = json!({ "instances": instances });
        if !parameters.is_empty() {
            set(&mut body, "parameters", parameters);
        }
        body
    }

    fn embed_content(&mut self) -> Value {
        let mut config = Map::new();
        put(&mut config, "taskType", self.take(&["taskType", "task_type"]));
        put(&mut config, "title", self.take(&["title"]));
        put(&mut config, "outputDimensionality", self.dimensions);
        put(&mut config, "autoTruncate", self.take(&["autoTruncate", "auto_truncate"]));
        let mut body = json!({ "content": { "parts": [{ "text": self.first() }] } });
        if !config.is_empty() {
            set(&mut body, "embedContentConfig", config);
        }
        body
    }

    fn first(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The first Titan has neither dimensions nor normalisation.
    fn titan(&mut self, meta: &DeploymentMeta, model: &str) -> Result<Value, ApiError> {
        let mut body = json!({ "inputText": self.first() });
        let second = !meta.model.contains("embed-text-v1") && !meta.model.contains("embed-g1");
        let dimensions = self.dimensions.filter(|_| second || !meta.params.drop);
        if dimensions.is_some() && !second {
            return Err(unsupported_dimensions(model));
        }
        if let Some(members) = body.as_object_mut() {
            put(members, "dimensions", dimensions);
            put(members, "normalize", self.take(&["normalize"]).filter(|_| second));
        }
        Ok(body)
    }

    fn titan_image(&mut self) -> Value {
        let mut body = json!({ "inputText": self.first() });
        if let Some(dimensions) = self.dimensions {
            set(&mut body, "embeddingConfig", json!({ "outputEmbeddingLength": dimensions }));
        }
        body
    }

    fn cohere(&mut self, meta: &DeploymentMeta, model: &str) -> Result<Value, ApiError> {
        let fourth = meta.model.contains("v4");
        let dimensions = self.dimensions.filter(|_| fourth || !meta.params.drop);
        if dimensions.is_some() && !fourth {
            return Err(unsupported_dimensions(model));
        }
        let usual = || Value::from("search_document");
        let kind = self.take(&["input_type"]).unwrap_or_else(usual);
        let mut body = json!({ "texts": self.texts, "input_type": kind, "embedding_types": ["float"] });
        if let Some(members) = body.as_object_mut() {
            put(members, "output_dimension", dimensions);
            put(members, "truncate", self.take(&["truncate"]));
            put(members, "max_tokens", self.take(&["max_tokens"]).filter(|_| fourth));
        }
        Ok(body)
    }

    fn nova(&mut self) -> Value {
        let purpose = self.take(&["embeddingPurpose", "embedding_purpose"]);
        let truncation = self.take(&["truncationMode", "truncation_mode"]);
        let mut params = json!({
            "embeddingPurpose": purpose.unwrap_or_else(|| "GENERIC_INDEX".into()),
            "text": {
                "truncationMode": truncation.unwrap_or_else(|| "NONE".into()),
                "value": self.first(),
            },
        });
        if let Some(dimensions) = self.dimensions {
            set(&mut params, "embeddingDimension", dimensions);
        }
        json!({ "taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params })
    }
}

/// Adds a member if there is a value for it.
fn put(members: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}

fn unsupported_dimensions(model: &str) -> ApiError {
    crate::dialect::support::unsupported("dimensions", model)
}
