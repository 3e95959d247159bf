use futures_util::TryStreamExt as _;
use tokio::sync::watch;

use super::*;

const OLD: &str = "2026-01-01T00:00:00.000000001Z stdout F zero\n";
const LOG: &str = "2026-01-01T00:00:01.000000001Z stdout F one\n\
    2026-01-01T00:00:02.000000001Z stderr P tw\n\
    2026-01-01T00:00:02.000000002Z stderr F o\n\
    not an entry\n\
    2026-01-01T00:00:03.000000001Z stdout F \n\
    2026-01-01T00:00:04.000000001Z stdout F four words on it\n";

async fn check(options: LogOptions, expect: &str) {
    let temp = tempfile::tempdir().expect("a directory");
    let path = temp.path().join("0.log");
    std::fs::write(&path, LOG).expect("written");
    std::fs::write(rotated(&path), OLD).expect("written");
    let blocks: Vec<Bytes> = read(path, &options, None).try_collect().await.expect("readable");
    assert_eq!(String::from_utf8_lossy(&blocks.concat()), expect, "{options:?}");
}

#[tokio::test]
async fn lines_are_put_together_and_rotated_ones_come_first() {
    check(LogOptions::default(), "zero\none\ntwo\n\nfour words on it\n").await;
}

#[tokio::test]
async fn lines_can_be_chosen() {
    let options = |change: fn(&mut LogOptions)| {
        let mut options = LogOptions::default();
        change(&mut options);
        options
    };
    check(options(|of| of.tail_lines = Some(2)), "\nfour words on it\n").await;
    check(options(|of| of.tail_lines = Some(3)), "two\n\nfour words on it\n").await;
    check(options(|of| of.tail_lines = Some(0)), "").await;
    check(
        options(|of| of.tail_lines = Some(99)),
        "zero\none\ntwo\n\nfour words on it\n",
    )
    .await;
    check(options(|of| of.limit_bytes = Some(7)), "zero\non").await;
    check(
        options(|of| of.since_time = Some("2026-01-01T00:00:03Z".into())),
        "\nfour words on it\n",
    )
    .await;
    check(options(|of| of.since_seconds = Some(1)), "").await;
    check(
        options(|of| {
            of.timestamps = true;
            of.tail_lines = Some(3);
        }),
        "2026-01-01T00:00:02.000000001Z two\n2026-01-01T00:00:03.000000001Z \n2026-01-01T00:00:04.000000001Z four words on it\n",
    )
    .await;
}

struct Flag(watch::Receiver<bool>);

impl Alive for Flag {
    fn is_alive(&self) -> bool {
        *self.0.borrow()
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[tokio::test]
async fn following_goes_on_over_a_rotation_until_the_container_ends() {
    use std::io::Write as _;
    let temp = tempfile::tempdir().expect("a directory");
    let path = temp.path().join("0.log");
    std::fs::write(&path, OLD).expect("written");
    let (alive, flag) = watch::channel(true);
    let mut lines = read(path.clone(), &LogOptions::default(), Some(Box::new(Flag(flag))));
    let mut next = async || {
        lines
            .try_next()
            .await
            .expect("readable")
            .map(|block| String::from_utf8_lossy(&block).into_owned())
    };
    assert_eq!(next().await.as_deref(), Some("zero\n"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("there");
    file.write_all(b"2026-01-01T00:00:01Z stdout F last of the old\n")
        .expect("written");
    std::fs::rename(&path, rotated(&path)).expect("renamed");
    std::fs::write(&path, "2026-01-01T00:00:02Z stdout F first of the new\n").expect("written");
    assert_eq!(next().await.as_deref(), Some("last of the old\n"));
    assert_eq!(next().await.as_deref(), Some("first of the new\n"));
    alive.send_replace(false);
    assert_eq!(next().await, None);
}

#[test]
fn the_end_of_a_log_serves_as_message() {
    let temp = tempfile::tempdir().expect("a directory");
    let path = temp.path().join("0.log");
    std::fs::write(&path, LOG).expect("written");
    assert_eq!(tail_for_message(&path), "one\ntwo\n\nfour words on it\n");
    assert_eq!(tail_for_message(&temp.path().join("none")), "");
}
