//! Where contents of files are: a directory, or a bucket of a real server that speaks S3.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use manager_core::{FileStorage, S3Bucket};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

/// The bucket's name.
const NAME: &str = "picloud-files";
const REGION: &str = "us-east-1";
/// The server looks at no signature.
const KEY: &str = "tests";

/// One storage, seen past the manager.
pub(crate) struct Storage {
    place: Place,
    store: Arc<dyn ObjectStore>,
}

enum Place {
    Directory(TempDir),
    Bucket(Bucket),
}

impl Storage {
    pub(crate) fn directory() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        Self { place: Place::Directory(directory), store: Arc::new(store) }
    }

    pub(crate) fn bucket() -> Self {
        let bucket = Bucket::start();
        // The first to come sets it for the process, and they all set the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_bucket_name(NAME)
            .with_region(REGION)
            .with_access_key_id(KEY)
            .with_secret_access_key(KEY)
            .with_endpoint(&bucket.endpoint)
            .with_allow_http(true)
            .build()
            .unwrap();
        Self { place: Place::Bucket(bucket), store: Arc::new(store) }
    }

    /// What the manager is to know.
    pub(crate) fn files(&self) -> FileStorage {
        match &self.place {
            Place::Directory(directory) => FileStorage::Directory(directory.path().to_owned()),
            Place::Bucket(bucket) => FileStorage::S3(S3Bucket {
                bucket: NAME.to_owned(),
                endpoint: Some(bucket.endpoint.clone()),
                region: REGION.to_owned(),
                access_key_id: KEY.to_owned(),
                secret_access_key: KEY.to_owned(),
            }),
        }
    }

    /// The names of all objects, sorted.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let objects: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let mut names: Vec<_> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Puts an object of somebody else there.
    pub(crate) async fn plant(&self, name: &str) {
        self.store.put(&Path::from(name), "x".into()).await.unwrap();
    }

    /// Puts there what a process leaves that is killed while it writes an object, two hours old, where objects are
    /// files: where it is.
    pub(crate) fn plant_half(&self, name: &str) -> Option<PathBuf> {
        let Place::Directory(directory) = &self.place else { return None };
        let path = directory.path().join(name);
        File::create(&path).unwrap().set_modified(long_ago()).unwrap();
        Some(path)
    }

    /// Makes an object two hours older.
    pub(crate) fn age(&mut self, name: &str) {
        match &mut self.place {
            Place::Directory(directory) => {
                let file = File::options().write(true).open(directory.path().join(name)).unwrap();
                file.set_modified(long_ago()).unwrap();
            }
            Place::Bucket(bucket) => bucket.age(name),
        }
    }
}

fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(2 * 60 * 60)
}

/// The server's process, of the tests of the crate `picloud`; ended, and waited for, when dropped.
struct Bucket {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    endpoint: String,
}

impl Bucket {
    fn start() -> Self {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../picloud/tests/s3-server");
        let mut child = Command::new(format!("{dir}/venv/bin/python"))
            .args(["server.py", NAME])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the S3 server is missing: run make setup-tests");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut bucket = Self { child, stdin, stdout: BufReader::new(stdout), endpoint: String::new() };
        let port: u16 = bucket.line().parse().unwrap();
        bucket.endpoint = format!("http://127.0.0.1:{port}");
        bucket
    }

    fn age(&mut self, name: &str) {
        writeln!(self.stdin, "{name}").unwrap();
        assert_eq!(self.line(), "", "the server says that it is done");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.stdout.read_line(&mut line).unwrap();
        assert_ne!(bytes, 0, "the S3 server has ended: run make setup-tests");
        line.trim().to_owned()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
