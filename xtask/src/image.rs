//! `cargo xtask image`: the container images, made without a container engine.
//!
//! All of the product's programs are one image, and the programs of tests another layer, which their images share. There is no
//! distribution below: beside the programs lie only the loader and the shared libraries that they are linked with, as the machine that
//! builds has them. The CNI plugin is linked statically, because it is copied to nodes and runs on what is there.
//! What sidecars and gateways run is an image of its own, `proxyv2`, made with an Envoy that is given (`--envoy`): Envoy is no part of the
//! product.
//! For another machine, `--target` builds with its compiler and takes its libraries from `/usr/TARGET/lib`; an archive is for one machine.

mod elf;
mod oci;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use oci::{Entry, Files, Image, Layer};

pub(crate) const USAGE: &str = "\
usage: cargo xtask image [--output FILE] [--envoy PATH] [--tests] [--tag TAG] [--hub HUB] [--profile release|dev] [--target TRIPLE]

  --output FILE    the OCI archive to write (default target/corten-image.tar)
  --envoy PATH     the image of sidecars and gateways (proxyv2) as well, with this Envoy
  --tests          the images of test programs (echo, load, capture) as well
  --tag TAG        the images' tag (default: the version)
  --hub HUB        what stands before the images' names (default corten.dev)
  --profile NAME   how programs are built (default release; dev is quicker to build and larger)
  --target TRIPLE  for another machine (its linker and C library have to be installed)
";

/// The product's programs.
const PROGRAMS: [&str; 5] = ["corten", "corten-control", "corten-node", "corten-agent", PLUGIN];
const PLUGIN: &str = "corten-cni";
/// What runs Envoy, and its name in Istio's images, by which pods call it.
const SIDECAR: &str = "corten-sidecar";
const SIDECAR_NAME: &str = "pilot-agent";
/// Authorities of servers outside, where programs look for them.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Of these the test images are made.
const TEST_PROGRAMS: [&str; 3] = ["corten-echo", "corten-load", "corten-capture"];
/// What test scenarios call in test pods, from the machine that builds.
const TOOLS: [&str; 14] = [
    "bash", "sh", "cat", "date", "env", "grep", "head", "id", "ls", "mkdir", "od", "sleep", "timeout", "true",
];

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) output: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) tests: bool,
    pub(crate) tag: String,
    pub(crate) hub: String,
    pub(crate) profile: String,
    pub(crate) target: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            output: None,
            envoy: None,
            tests: false,
            tag: env!("CARGO_PKG_VERSION").into(),
            hub: "corten.dev".into(),
            profile: "release".into(),
            target: None,
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--tests" {
            options.tests = true;
            continue;
        }
        let Some(value) = arguments.next().cloned() else {
            bail!("{argument:?} is no option with a value\n{USAGE}");
        };
        match argument.as_str() {
            "--output" => options.output = Some(value.into()),
            "--envoy" => options.envoy = Some(value.into()),
            "--tag" => options.tag = value,
            "--hub" => options.hub = value,
            "--profile" => options.profile = value,
            "--target" => options.target = Some(value),
            other => bail!("there is no option {other:?}\n{USAGE}"),
        }
    }
    Ok(options)
}

/// `cargo xtask image`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.iter().any(|it| it == "--help" || it == "-h") {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let archive = build(&parse(arguments)?)?;
    println!("{}", archive.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs and writes the archive; where it is.
pub(crate) fn build(options: &Options) -> Result<PathBuf> {
    let mut programs: Vec<&str> = PROGRAMS.to_vec();
    // Before anything takes long.
    let envoy = match &options.envoy {
        Some(path) => {
            programs.push(SIDECAR);
            Some(fs::read(path).with_context(|| format!("--envoy {}", path.display()))?)
        }
        None => None,
    };
    if options.tests {
        programs.extend(TEST_PROGRAMS);
    }
    let dir = compile(options, options.target.as_deref(), &[], "")?;
    // A target that is named explicitly, even if it is the same, keeps the flags from build scripts and macros.
    let target = options.target.clone().map_or_else(host, Ok)?;
    let static_dir = compile(options, Some(&target), &["-p", PLUGIN], "-C target-feature=+crt-static")?;
    let mut built = BTreeMap::new();
    for name in programs {
        let from = if name == PLUGIN { &static_dir } else { &dir };
        let from = from.join(name);
        // The dev profile's programs are several times larger with what debuggers read.
        let bytes = if options.profile == "release" {
            fs::read(&from)
        } else {
            Ok(stripped(&from)?)
        };
        built.insert(name, bytes.with_context(|| from.display().to_string())?);
    }
    let output = match &options.output {
        Some(path) => std::path::absolute(path)?,
        None => cargo::target_dir("corten-image.tar")?,
    };
    let places = libraries(&target);
    let architecture = elf::read(&built["corten"])?.architecture;
    let product = Layer::new(&product_files(&built, &places)?)?;
    let tests = if options.tests {
        Some(Layer::new(&test_files(&built, &places)?)?)
    } else {
        None
    };
    let proxy = match envoy {
        Some(envoy) => Some(Layer::new(&proxy_files(&built, envoy, architecture, &places)?)?),
        None => None,
    };
    let images = images(options, &product, proxy.as_ref(), tests.as_ref());
    let file = fs::File::create(&output).with_context(|| output.display().to_string())?;
    oci::write(&images, architecture, BufWriter::new(file))?;
    for image in &images {
        let size: usize = image.layers.iter().map(|layer| layer.size()).sum();
        #[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
        let megabytes = size as f64 / 1e6;
        eprintln!("{:40} {architecture} {megabytes:.1} MB", image.name);
    }
    Ok(output)
}

fn images<'a>(
    options: &Options,
    product: &'a Layer,
    proxy: Option<&'a Layer>,
    tests: Option<&'a Layer>,
) -> Vec<Image<'a>> {
    let image = |name: &str, layer: &'a Layer, program: &str, user: &'static str| Image {
        name: format!("{}/{name}:{}", options.hub, options.tag),
        layers: vec![layer],
        entrypoint: vec![format!("/usr/local/bin/{program}")],
        user,
        labels: BTreeMap::from([
            ("org.opencontainers.image.title".into(), name.to_owned()),
            ("org.opencontainers.image.version".into(), options.tag.clone()),
            ("org.opencontainers.image.licenses".into(), "Apache-2.0".into()),
        ]),
    };
    // Whoever starts another of its programs says so, and as whom: the charts do.
    let product = [image("corten", product, "corten", "65532:65532")];
    // Injected pods say as whom; whoever redirects connections is root.
    let proxy = proxy.map(|layer| image("proxyv2", layer, SIDECAR, "1337:1337"));
    let tests = tests.into_iter().flat_map(|layer| {
        let name = |program: &'static str| program.trim_start_matches("corten-");
        TEST_PROGRAMS.map(|program| image(name(program), layer, program, "0:0"))
    });
    product.into_iter().chain(proxy).chain(tests).collect()
}

/// Builds binaries; the directory they are in.
fn compile(options: &Options, target: Option<&str>, which: &[&str], flags: &str) -> Result<PathBuf> {
    let mut command = cargo::command();
    command.args(["build", "--locked", "--bins", "--profile", &options.profile]);
    // Everything, so that dependencies are built as for the tests.
    command.args(if which.is_empty() { &["--workspace"] } else { which });
    if !flags.is_empty() {
        command.env("RUSTFLAGS", flags);
    }
    if let Some(target) = target {
        command.args(["--target", target]);
    }
    ensure!(
        command.status().context("running cargo build")?.success(),
        "the build failed"
    );
    let folder = if options.profile == "dev" {
        "debug"
    } else {
        &options.profile
    };
    cargo::target_dir(&target.map_or_else(|| folder.to_owned(), |target| format!("{target}/{folder}")))
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn stripped(program: &Path) -> Result<Vec<u8>> {
    let to = program.with_extension("stripped");
    let status = Command::new("strip").arg("-o").arg(&to).arg(program).status();
    if !status
        .context("running strip (Debian: apt-get install binutils)")?
        .success()
    {
        bail!("{} cannot be stripped", program.display());
    }
    let bytes = fs::read(&to)?;
    fs::remove_file(&to)?;
    Ok(bytes)
}

/// Where shared libraries for a machine are looked for.
fn libraries(target: &str) -> Vec<PathBuf> {
    // Debian's name of a machine has no vendor in it.
    let debian: Vec<&str> = target.split('-').filter(|part| *part != "unknown").collect();
    let debian = debian.join("-");
    let own = [
        format!("/lib/{debian}"),
        format!("/usr/lib/{debian}"),
        format!("/usr/{debian}/lib"),
    ];
    let shared = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(str::to_owned);
    own.into_iter().chain(shared).map(PathBuf::from).collect()
}

/// Adds the loader and the libraries that the programs need, and those that these need.
fn add_libraries(files: &mut Files, places: &[PathBuf]) -> Result<()> {
    let mut waiting: Vec<String> = files.keys().cloned().collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let Some(Entry::Program(bytes)) = files.get(&path) else {
            continue;
        };
        let elf = elf::read(bytes).with_context(|| path.clone())?;
        for name in elf.needed {
            if !seen.insert(name.clone()) {
                continue;
            }
            let mut found = places.iter().map(|place| place.join(&name)).filter(|it| it.exists());
            let library = found
                .next()
                .with_context(|| format!("{path} needs {name}, which is not in {places:?}"))?;
            waiting.push(add(files, &library, &library)?);
        }
        if let Some(interpreter) = elf.interpreter
            && seen.insert(interpreter.clone())
        {
            let at = Path::new(&interpreter);
            let mut found = std::iter::once(at.to_owned())
                .chain(
                    places
                        .iter()
                        .map(|place| place.join(at.file_name().unwrap_or_default())),
                )
                .filter(|it| it.exists());
            let from = found.next().with_context(|| format!("{path} needs {interpreter}"))?;
            add(files, &from, at)?;
        }
    }
    Ok(())
}

/// Adds a file of this machine, executable; its path in the layer.
fn add(files: &mut Files, from: &Path, to: &Path) -> Result<String> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    let path = to.to_string_lossy().trim_start_matches('/').to_owned();
    files.insert(path.clone(), Entry::Program(bytes));
    Ok(path)
}

/// What programs expect of any system.
fn base() -> Files {
    let file = |text: &str| Entry::File(text.as_bytes().to_vec());
    let mut files = Files::from([
        (
            "etc/passwd".into(),
            file(
                "root:x:0:0:root:/:/bin/sh\nproxy:x:1337:1337:proxy:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/sh\n",
            ),
        ),
        ("etc/group".into(), file("root:x:0:\nproxy:x:1337:\nnonroot:x:65532:\n")),
        ("etc/nsswitch.conf".into(), file("hosts: files dns\n")),
        ("tmp".into(), Entry::Directory(0o1777)),
    ]);
    // Who asks servers outside, for keys of issuers say, has to know whom to believe.
    match fs::read(AUTHORITIES) {
        Ok(bytes) => drop(files.insert(AUTHORITIES.trim_start_matches('/').into(), Entry::File(bytes))),
        Err(error) => eprintln!(
            "warning: {AUTHORITIES}: {error}; the images trust no authorities of servers outside (Debian: apt-get install ca-certificates)"
        ),
    }
    files
}

/// What sidecars and gateways run.
fn proxy_files(
    built: &BTreeMap<&str, Vec<u8>>,
    envoy: Vec<u8>,
    architecture: &str,
    places: &[PathBuf],
) -> Result<Files> {
    let its = elf::read(&envoy).context("the Envoy that was given")?.architecture;
    ensure!(
        its == architecture,
        "the Envoy that was given is for {its}, and the image for {architecture}"
    );
    let mut files = base();
    files.insert("usr/local/bin/envoy".into(), Entry::Program(envoy));
    files.insert(
        format!("usr/local/bin/{SIDECAR}"),
        Entry::Program(built[SIDECAR].clone()),
    );
    files.insert(format!("usr/local/bin/{SIDECAR_NAME}"), Entry::Link(SIDECAR.into()));
    add_libraries(&mut files, places)?;
    Ok(files)
}

fn product_files(built: &BTreeMap<&str, Vec<u8>>, places: &[PathBuf]) -> Result<Files> {
    let mut files = base();
    for name in PROGRAMS {
        files.insert(format!("usr/local/bin/{name}"), Entry::Program(built[name].clone()));
    }
    let plugin = elf::read(&built[PLUGIN])?;
    ensure!(
        plugin.needed.is_empty(),
        "{PLUGIN} is linked with {:?}: it would not run on nodes that have other versions",
        plugin.needed
    );
    add_libraries(&mut files, places)?;
    Ok(files)
}

fn test_files(built: &BTreeMap<&str, Vec<u8>>, places: &[PathBuf]) -> Result<Files> {
    let mut files = base();
    for name in TEST_PROGRAMS {
        files.insert(format!("usr/local/bin/{name}"), Entry::Program(built[name].clone()));
    }
    for name in TOOLS {
        let from = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
        let from = from.iter().find(|path| path.exists());
        let from = from.with_context(|| format!("this machine has no {name}, which test pods need"))?;
        add(&mut files, from, &Path::new("/bin").join(name))?;
    }
    add_libraries(&mut files, places)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_bring_what_they_need() {
        let mut files = Files::new();
        add(
            &mut files,
            &std::env::current_exe().unwrap(),
            Path::new("/usr/local/bin/a"),
        )
        .unwrap();
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        add_libraries(&mut files, &libraries(&target)).unwrap();
        let elf = match &files["usr/local/bin/a"] {
            Entry::Program(bytes) => elf::read(bytes).unwrap(),
            other => panic!("{other:?}"),
        };
        for name in elf.needed {
            let library = files.keys().find(|path| path.ends_with(&format!("/{name}")));
            assert!(library.is_some(), "{name} of {:?}", files.keys());
        }
        if let Some(interpreter) = elf.interpreter {
            assert!(files.contains_key(interpreter.trim_start_matches('/')));
        }
    }

    #[test]
    fn a_proxys_image_is_for_one_machine() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let built = BTreeMap::from([(SIDECAR, program.clone())]);
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let own = elf::read(&program).unwrap().architecture;
        let files = proxy_files(&built, program.clone(), own, &libraries(&target)).unwrap();
        assert_eq!(files["usr/local/bin/pilot-agent"], Entry::Link(SIDECAR.into()));
        assert!(files.contains_key("usr/local/bin/envoy"));
        let error = proxy_files(&built, program, "m68k", &libraries(&target)).unwrap_err();
        assert!(error.to_string().contains("and the image for m68k"), "{error}");
    }

    #[test]
    fn options_are_read() {
        let words: Vec<String> = ["--tests", "--tag", "1.2", "--output", "x.tar", "--envoy", "/e"]
            .map(str::to_owned)
            .to_vec();
        let options = parse(&words).unwrap();
        assert!(options.tests);
        assert_eq!(options.envoy.as_deref(), Some(Path::new("/e")));
        assert_eq!((options.tag.as_str(), options.hub.as_str()), ("1.2", "corten.dev"));
        assert!(parse(&["--nothing".into(), "x".into()]).is_err());
        assert!(parse(&["--tag".into()]).is_err());
    }
}
