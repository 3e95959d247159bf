//! `cargo xtask fields`: judges every field of every resource, and writes the table of them.
//!
//! Nothing is ignored in silence: a field that can be written is honoured, or somebody is told that it is not. This is the proof, field by
//! field. The fields come from the types that decode; a corpus of small meshes sets each; and the verdict is what a change of the field
//! changes in what is sent and said. No list of fields is kept by hand.

mod judge;
mod kinds;
mod plain;
mod pods;
mod schema;
mod table;
mod world;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, bail};

use crate::{
    judge::{Base, Outcome},
    kinds::{Judged, KINDS},
    schema::Leaf,
    world::World,
};

const USAGE: &str = "usage: cargo xtask fields [--check] [KIND...]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Judges all kinds and writes the page; some, or with `--check`: only shows what is wrong.
fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut chosen = Vec::new();
    let mut check = false;
    for argument in arguments {
        match argument.as_str() {
            "--check" => check = true,
            kind if KINDS.iter().any(|known| known.folder() == kind) => chosen.push(kind),
            other => bail!("{other} is no kind\n{USAGE}"),
        }
    }
    let judged = judged(|kind| chosen.is_empty() || chosen.contains(&kind.folder()))?;
    let wrong = wrong(&judged);
    for line in &wrong {
        println!("{line}");
    }
    println!("{}", counted(&judged));
    if chosen.is_empty() && !check {
        std::fs::write(page_file(), table::page(&judged)).context("writing docs/fields.md")?;
    }
    Ok(if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn page_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fields.md")
}

type Verdicts = Vec<(Judged, Vec<(Leaf, Outcome)>)>;

/// The verdicts on the fields of the kinds that are wanted.
fn judged(wanted: impl Fn(&Judged) -> bool) -> Result<Verdicts> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut worlds = Vec::new();
    for root in ["testdata", "../corten-envoy-gen/testdata"] {
        for file in world::files(&here.join(root))? {
            worlds.push(World::read(&file)?);
        }
    }
    let bases = in_threads(&worlds, |world| Base {
        output: world.output(&world.objects, None),
        world: world.clone(),
    });
    let kinds: Vec<Judged> = KINDS.iter().copied().filter(wanted).collect();
    let fields: Vec<(Judged, Leaf)> = kinds
        .iter()
        .flat_map(|kind| kind.leaves().into_iter().map(move |leaf| (*kind, leaf)))
        .collect();
    let mut outcomes = in_threads(&fields, |(kind, leaf)| judge::judge(kind, leaf, &bases)).into_iter();
    let mut verdicts: Verdicts = kinds.into_iter().map(|kind| (kind, Vec::new())).collect();
    for (kind, rows) in &mut verdicts {
        let count = kind.leaves().len();
        rows.extend(kind.leaves().into_iter().zip(outcomes.by_ref().take(count)));
    }
    Ok(verdicts)
}

/// Applies a function to all, in as many threads as there are cores; the results in their order.
fn in_threads<T: Sync, R: Send>(all: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = all.get(index) else { return done };
                done.push((index, each(one)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The fields that are neither honoured nor reported, and those that no world sets.
fn wrong(judged: &Verdicts) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, rows) in judged {
        for (leaf, outcome) in rows {
            let what = match outcome {
                Outcome::Honoured { .. } | Outcome::Reported { .. } | Outcome::Plain { .. } => continue,
                Outcome::Silent { worlds } => {
                    let worlds: Vec<&str> = worlds.iter().map(String::as_str).collect();
                    format!("ignored in silence in {}", worlds.join(", "))
                }
                Outcome::Unset => "no world sets it".to_owned(),
            };
            found.push(format!("{} {}: {what}", kind.folder(), leaf.shown()));
        }
    }
    let is_plain = |kind: &str, path: &str| {
        let of_kind = judged.iter().find(|(judged, _)| judged.folder() == kind);
        // What is not judged this time is not spoken of.
        of_kind.is_none_or(|(_, rows)| {
            rows.iter()
                .any(|(leaf, outcome)| matches!(outcome, Outcome::Plain { .. }) && leaf.shown() == path)
        })
    };
    found.extend(plain::superfluous(&is_plain));
    found
}

/// One line that counts.
fn counted(judged: &Verdicts) -> String {
    let outcomes = || {
        judged
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|(_, outcome)| outcome))
    };
    let count = |is: fn(&Outcome) -> bool| outcomes().filter(|outcome| is(outcome)).count();
    format!(
        "{} fields of {} kinds: {} honoured, {} said, {} without meaning, {} ignored, {} not judged",
        outcomes().count(),
        judged.len(),
        count(|outcome| matches!(outcome, Outcome::Honoured { .. })),
        count(|outcome| matches!(outcome, Outcome::Reported { .. })),
        count(|outcome| matches!(outcome, Outcome::Plain { .. })),
        count(|outcome| matches!(outcome, Outcome::Silent { .. })),
        count(|outcome| matches!(outcome, Outcome::Unset)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_honoured_or_said_and_the_page_says_so() {
        let judged = judged(|_| true).expect("the worlds can be read");
        let wrong = wrong(&judged);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        expect_test::expect_file![page_file()].assert_eq(&table::page(&judged));
    }

    /// What the pods of the worlds that are about how proxies run start, with what these Envoys are sent.
    #[test]
    fn a_stock_envoy_accepts_what_it_is_started_with_and_sent() {
        let envoy = match corten_stock_envoy::program() {
            Ok(envoy) => envoy,
            Err(missing) => corten_rt::skip!("{missing}"),
        };
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        let of_pods = |file: &PathBuf| file.display().to_string().contains("default-config");
        let files = world::files(&here.join("MeshConfig")).expect("worlds");
        let worlds: Vec<World> = files
            .iter()
            .filter(|file| of_pods(file))
            .map(|file| World::read(file).expect("a world"))
            .collect();
        let refused = in_threads(&worlds, |world| {
            let files = world.output(&world.objects, None).files_of_pods();
            assert_eq!(files.len(), 2, "{}: every pod starts a proxy", world.name);
            let refused = files
                .iter()
                .filter_map(|file| corten_stock_envoy::validate(&envoy, file).err());
            refused
                .map(|said| format!("{}: {said}", world.name))
                .collect::<Vec<_>>()
        });
        assert!(!worlds.is_empty());
        assert_eq!(refused.concat(), [""; 0]);
    }

    #[test]
    fn what_has_no_effect_is_shown_to_by_a_test() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sources = sources(&crates);
        for plain in plain::PLAIN {
            let name = format!("fn {}()", plain.test);
            assert!(
                sources.iter().any(|text| text.contains(&name)),
                "there is no test {}",
                plain.test
            );
        }
    }

    #[test]
    fn a_port_of_a_sidecar_is_what_it_says() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/Sidecar/listeners.yaml");
        let world = World::read(&file).expect("a world");
        let before = world.output(&world.objects, None);
        let changed = |field: &str, value: &str| {
            let mut objects = world.objects.clone();
            let is_it = |object: &&mut serde_json::Value| {
                object["kind"] == "Sidecar" && object["spec"]["egress"][1]["port"]["number"] == 81
            };
            let sidecar = objects.iter_mut().find(is_it).expect("there is one");
            sidecar["spec"]["egress"][1]["port"][field] = serde_json::json!(value);
            before.differences(&world.output(&objects, None))
        };
        assert!(changed("name", "other").is_empty());
        assert!(changed("protocol", "TCP").contains("listeners"));
    }

    #[test]
    fn names_and_descriptions_are_for_people() {
        let cases = [
            (
                "GatewayClass/classes.yaml",
                "GatewayClass",
                "/spec/description",
                "/spec/controllerName",
            ),
            (
                "TLSRoute/parents.yaml",
                "TLSRoute",
                "/spec/rules/0/name",
                "/spec/rules/0/backendRefs/0/name",
            ),
            (
                "TCPRoute/parents.yaml",
                "TCPRoute",
                "/spec/rules/0/name",
                "/spec/rules/0/backendRefs/0/name",
            ),
        ];
        for (file, kind, plain, other) in cases {
            let world =
                World::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file)).expect("a world");
            let before = world.output(&world.objects, None);
            let changed = |path: &str| {
                let mut objects = world.objects.clone();
                let mut of_kind = objects.iter_mut().filter(|object| object["kind"] == kind);
                *of_kind.find_map(|object| object.pointer_mut(path)).expect("it is set") = serde_json::json!("other");
                before.differences(&world.output(&objects, None))
            };
            assert!(changed(plain).is_empty(), "{kind} {plain}");
            assert!(!changed(other).is_empty(), "{kind} {other}");
        }
    }

    /// The texts of all sources below a folder.
    fn sources(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(std::fs::read_to_string(&path).expect("a text"));
            }
        }
        found
    }
}
