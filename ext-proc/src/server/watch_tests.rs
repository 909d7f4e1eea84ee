use std::os::unix::fs::symlink;

use tokio::time::timeout;

use super::*;

const EVERY: Duration = Duration::from_millis(5);

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

async fn changes(watch: &Watch) -> bool {
    timeout(Duration::from_secs(5), watch.changed(EVERY)).await.is_ok()
}

async fn is_quiet(watch: &Watch) -> bool {
    timeout(Duration::from_millis(300), watch.changed(EVERY)).await.is_err()
}

#[tokio::test]
async fn new_content_is_seen_and_the_same_content_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = write(dir.path(), "a.yaml", "model_list: []\n");
    let mut watch = Watch::new(Origin::from(&root), vec![root]);
    write(dir.path(), "a.yaml", "model_list: []\n");
    assert!(is_quiet(&watch).await, "written again, not changed");
    write(dir.path(), "a.yaml", "model_list: [] # new\n");
    assert!(changes(&watch).await);
    watch.take().await;
    assert!(is_quiet(&watch).await, "seen once");
    std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert!(changes(&watch).await);
}

#[tokio::test]
async fn included_files_count_also_those_that_are_missing_still() {
    let dir = tempfile::tempdir().unwrap();
    let root = write(dir.path(), "a.yaml", "include: [b.yaml]\n");
    write(dir.path(), "b.yaml", "include: [c.yaml]\n");
    // As after a start that knew the root only: what it includes is found all the same.
    let mut watch = Watch::new(Origin::from(&root), vec![root]);
    write(dir.path(), "c.yaml", "model_list: []\n");
    assert!(changes(&watch).await, "c.yaml appeared");
    watch.take().await;
    write(dir.path(), "c.yaml", "model_list: [] # new\n");
    assert!(changes(&watch).await);
    watch.take().await;
    let other = write(dir.path(), "by-placeholder.yaml", "");
    watch.also(vec![other]).await;
    assert!(is_quiet(&watch).await, "a new file is no change by itself");
    write(dir.path(), "by-placeholder.yaml", "model_list: []");
    assert!(changes(&watch).await);
}

#[tokio::test]
async fn a_config_map_is_swapped_by_its_link() {
    let dir = tempfile::tempdir().unwrap();
    for (version, text) in [("v1", "model_list: []\n"), ("v2", "model_list: [] # v2\n")] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        write(dir.path(), &format!("{version}/config.yaml"), text);
    }
    symlink("v1", dir.path().join("..data")).unwrap();
    symlink("..data/config.yaml", dir.path().join("config.yaml")).unwrap();
    let root = dir.path().join("config.yaml");
    let watch = Watch::new(Origin::from(&root), vec![root]);
    assert!(is_quiet(&watch).await);
    symlink("v2", dir.path().join("..new")).unwrap();
    std::fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
    assert!(changes(&watch).await);
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = write(dir.path(), "a.yaml", "model_list: []\n");
    let watch = Watch::new(Origin::from(&root), vec![root]);
    let busy = dir.path().to_owned();
    let writer = tokio::spawn(async move {
        for n in 0..20 {
            write(&busy, "a.yaml", &format!("# {n}\n"));
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(changes(&watch).await);
    assert!(writer.is_finished(), "reported before it was whole");
}
