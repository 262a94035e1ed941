//! A disk that is really full under the API server: a small tmpfs in a mount namespace that only
//! the test's own threads see, and that is gone with them.

#[path = "apiserver/server.rs"]
mod server;

use std::io::{ErrorKind, Write};
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use server::{Server, code, config_map};

/// Enough for the store with what every cluster has.
const DISK: &str = "size=8m";

/// Gives this thread, and the threads it starts, a small disk of their own.
fn small_disk(at: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("root may have a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private");
    let none = MsFlags::empty();
    mount(Some("tmpfs"), at, Some("tmpfs"), none, Some(DISK)).expect("a small disk");
}

/// As an ordinary user, runs this test again as root of a user namespace.
fn as_root_of_a_namespace(test: &str) {
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    command.arg(std::env::current_exe().expect("has a path"));
    let output = command.args(["--exact", test, "--nocapture"]).output();
    let output = output.expect("util-linux is there");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Writes until nothing fits any more.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).expect("a file");
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![0; size];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    if !nix::unistd::geteuid().is_root() {
        return as_root_of_a_namespace("a_full_disk_refuses_writes_keeps_reads_and_recovers");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    // A thread of its own, since its mount namespace cannot be left again.
    let thread = std::thread::spawn(move || {
        small_disk(&path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(full_and_free_again(&path));
    });
    thread.join().expect("the test passes");
    let left = std::fs::read_dir(directory.path()).expect("the directory is there");
    assert_eq!(left.count(), 0, "the disk was seen outside of the test");
}

async fn full_and_free_again(path: &Path) {
    let server = Server::start(&path.join("api")).await;
    let maps: Api<ConfigMap> = Api::namespaced(server.admin().await, "default");
    let post = PostParams::default();
    maps.create(&post, &config_map("before", "1"))
        .await
        .expect("there is room");

    let filler = path.join("filler");
    fill(&filler);
    let big = "x".repeat(200_000);
    let mut written = vec!["before".to_owned()];
    let (name, refused) = loop {
        // The file has some room of its own left, which the first ones use up.
        let name = format!("big-{}", written.len());
        match maps.create(&post, &named(&name, &big)).await {
            Ok(_) => written.push(name),
            Err(error) => break (name, error),
        }
        assert!(written.len() < 64, "the disk does not get full");
    };
    let (number, message) = code(refused);
    assert_eq!(number, 507, "{message}");
    let file = path.join("api/state.redb").display().to_string();
    for part in [
        "no space left",
        file.as_str(),
        "free some",
        "nothing was changed",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!(code(maps.get(&name).await.expect_err("not applied")).0, 404);
    // Refused again, in the same words, by a store that has to open its file anew.
    let again = maps.create(&post, &named(&name, &big)).await;
    assert_eq!(code(again.expect_err("still full")), (507, message));
    assert_eq!(names(&maps).await, written, "reads go on");

    std::fs::remove_file(&filler).expect("removed");
    maps.create(&post, &named(&name, &big))
        .await
        .expect("there is room again");
    written.push(name);
    server.stop().await;

    let server = Server::start(&path.join("api")).await;
    let maps: Api<ConfigMap> = Api::namespaced(server.admin().await, "default");
    assert_eq!(
        names(&maps).await,
        written,
        "all that was acknowledged, and no more"
    );
    server.stop().await;
}

fn named(name: &str, value: &str) -> ConfigMap {
    let mut map = config_map(name, "big");
    map.data = Some([("key".to_owned(), value.to_owned())].into());
    map
}

/// The names of our own, in the order in which they were made.
async fn names(maps: &Api<ConfigMap>) -> Vec<String> {
    let list = maps.list(&ListParams::default()).await.expect("listed");
    let mut names: Vec<String> = list
        .items
        .into_iter()
        .filter(|map| {
            map.metadata
                .labels
                .as_ref()
                .is_some_and(|l| l.contains_key("v"))
        })
        .filter_map(|map| map.metadata.name)
        .collect();
    names.sort_by_key(|name| name.strip_prefix("big-").map(|n| n.parse::<u32>().ok()));
    names
}
