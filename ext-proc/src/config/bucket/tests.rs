use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::config::{Env, Loaded, Origin, load};

const MASTER: &str = "sk-5f3a9c07d1e84b62";

fn env() -> Env {
    Env::from([("LITELLM_MASTER_KEY", MASTER)])
}

struct World {
    store: Arc<InMemory>,
    bucket: Arc<Bucket>,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(InMemory::new());
        let bucket = Arc::new(Bucket::new(store.clone(), "s3", "conf", "llm/config.yaml"));
        Self { store, bucket }
    }

    fn put(&self, key: &str, text: &str) {
        let payload = PutPayload::from(text.to_owned());
        block(self.store.put(&ObjectPath::from(key), payload)).unwrap();
    }

    fn load(&self) -> Result<Loaded, String> {
        load(Origin::Bucket(Arc::clone(&self.bucket)), &env()).map_err(|errors| errors.to_string())
    }

    fn look(&self) -> [u8; 32] {
        block(self.bucket.look())
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn model(name: &str) -> String {
    format!(
        "model_list: [{{model_name: {name}, litellm_params: {{model: openai/{name}, api_key: sk-up}}}}]\n"
    )
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.config.model_list.iter().map(|entry| entry.model_name.as_str()).collect()
}

#[test]
fn includes_are_objects_beside_or_of_the_bucket() {
    let world = World::new();
    world.put("llm/config.yaml", &format!("include: [more.yaml, /top.yaml]\n{}", model("a")));
    world.put("llm/more.yaml", &model("b"));
    world.put("top.yaml", &model("c"));
    let loaded = world.load().unwrap();
    assert_eq!(names(&loaded), ["a", "b", "c"]);
    let files: Vec<_> = loaded.files.iter().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(files, ["s3://conf/llm/config.yaml", "s3://conf/llm/more.yaml", "s3://conf/top.yaml"]);
    let root = world.bucket.root();
    let beside = |name| world.bucket.beside(&root, name).display().to_string();
    assert_eq!(beside("./x/../y.yaml"), "s3://conf/llm/y.yaml");
    assert_eq!(beside("../../../y.yaml"), "s3://conf/y.yaml", "never out of the bucket");
}

#[test]
fn errors_name_object_line_and_variables() {
    let world = World::new();
    let missing = world.load().unwrap_err();
    for part in ["s3://conf/llm/config.yaml: ", "no such object", NAME, KEY] {
        assert!(missing.contains(part), "{part}: {missing}");
    }
    world.put("llm/config.yaml", "model_list: []\nrouter_setings: {}\n");
    let wrong = world.load().unwrap_err();
    assert!(wrong.contains("s3://conf/llm/config.yaml:2: router_setings: unknown key"), "{wrong}");
    world.put("llm/config.yaml", "include: [gone.yaml]\n");
    let gone = world.load().unwrap_err();
    assert!(gone.contains("there is no file s3://conf/llm/gone.yaml"), "{gone}");
}

#[test]
fn a_look_sees_what_was_not_read_and_nothing_else() {
    let world = World::new();
    world.put("llm/config.yaml", &format!("include: [more.yaml]\n{}", model("a")));
    world.put("llm/more.yaml", &model("b"));
    let loaded = world.load().unwrap();
    let seen = world.bucket.known();
    assert_eq!(world.look(), seen, "nothing has changed");
    world.put("llm/more.yaml", &model("new"));
    assert_ne!(world.look(), seen, "an included object counts");
    assert_eq!(names(&world.load().unwrap()), ["a", "new"]);
    let seen = world.bucket.known();
    block(world.store.delete(&ObjectPath::from("llm/more.yaml"))).unwrap();
    assert_ne!(world.look(), seen, "one that is gone counts too");
    // Refused, and found again when it is back: what is missing is looked for.
    assert!(world.load().is_err());
    let seen = world.bucket.known();
    assert_eq!(world.look(), seen);
    world.put("llm/more.yaml", &model("back"));
    assert_ne!(world.look(), seen);
    world.bucket.retain(&loaded.files[..1]);
    assert_eq!(world.bucket.known.lock().len(), 1, "what is not included any more is not polled");
}

#[test]
fn the_environment_says_which() {
    let made = |more: &[(&str, &str)]| {
        let env = Env::from([
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("GOOGLE_BASE_URL", "http://127.0.0.1:9"),
        ]);
        Bucket::from_env(&env.with(more.iter().copied()))
    };
    assert!(made(&[]).unwrap().is_none());
    assert!(made(&[(NAME, "")]).unwrap().is_none());
    let without_key = made(&[(NAME, "conf")]).unwrap_err();
    assert!(without_key.contains("conf") && without_key.contains(KEY), "{without_key}");
    let odd = made(&[(NAME, "conf"), (KEY, "c.yaml"), (TYPE, "azure")]).unwrap_err();
    assert!(odd.contains(TYPE) && odd.contains("s3 or gcs"), "{odd}");
    let root = |kind| made(&[(NAME, "conf"), (KEY, "/a/c.yaml"), (TYPE, kind)]).unwrap().unwrap().root();
    assert_eq!(root(""), Path::new("s3://conf/a/c.yaml"));
    assert_eq!(root("s3"), Path::new("s3://conf/a/c.yaml"));
    let half = made(&[(NAME, "conf"), (KEY, "c.yaml"), ("AWS_ACCESS_KEY_ID", "id")]).unwrap_err();
    assert!(half.starts_with("s3://conf/c.yaml (") && half.to_lowercase().contains("secret"), "{half}");
}
