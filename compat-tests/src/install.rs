//! Installs the pinned clients below `target/compat/` through the ordinary package managers. Each has a stamp made of
//! everything that goes into it, so a second run does nothing. What is being installed, nobody else installs; what was not
//! finished counts for nothing.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// Where this package lies.
#[must_use]
pub fn package_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `target/PROFILE` of the running test.
///
/// # Errors
/// When the test does not run from a target directory.
pub fn profile_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let deps = program.parent().context("a program lies in a directory")?;
    Ok(deps.parent().context("a test program lies below its profile's directory")?.to_owned())
}

/// `target` of the running test.
///
/// # Errors
/// As [`profile_dir`].
pub fn target_dir() -> Result<PathBuf> {
    Ok(profile_dir()?
        .parent()
        .context("a profile's directory lies in the target directory")?
        .to_owned())
}

/// `target/compat`: everything that is installed.
///
/// # Errors
/// When it cannot be made.
pub fn root() -> Result<PathBuf> {
    let root = target_dir()?.join("compat");
    std::fs::create_dir_all(&root)?;
    Ok(root)
}

/// Where brokers and clients of this run keep their files. The directories of runs that ended without removing theirs go
/// when the next run begins: a run holds the lock of its own for as long as it lives.
///
/// # Errors
/// When it cannot be made.
pub fn scratch() -> Result<PathBuf> {
    static RUN: OnceLock<Result<(PathBuf, File), String>> = OnceLock::new();
    let begin = || begin_run(&root()?.join("scratch"));
    let begun = RUN.get_or_init(|| begin().map_err(|error| format!("{error:#}")));
    begun.as_ref().map(|(dir, _)| dir.clone()).map_err(|error| anyhow::Error::msg(error.clone()))
}

/// Removes what dead runs left below `scratch` and makes a locked directory for this one.
fn begin_run(scratch: &Path) -> Result<(PathBuf, File)> {
    std::fs::create_dir_all(scratch)?;
    let gate = File::create(scratch.join("gate"))?;
    // Nobody may find a directory between its making and its locking.
    gate.lock()?;
    for entry in std::fs::read_dir(scratch)? {
        let dir = entry?.path();
        let Ok(lock) = File::open(dir.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("clear {}", dir.display()))?;
        }
    }
    let dir = tempfile::Builder::new().prefix("run-").tempdir_in(scratch)?.keep();
    let lock = File::create(dir.join("lock"))?;
    lock.lock()?;
    Ok((dir, lock))
}

/// Removes the files of this run, at its end.
pub fn end_run() {
    if let Ok(dir) = scratch() {
        // What cannot be removed now goes when the next run begins.
        let _removed = std::fs::remove_dir_all(dir);
    }
}

/// Where the brokers' whole logs of the last run lie.
///
/// # Errors
/// When it cannot be made.
pub fn logs() -> Result<PathBuf> {
    let logs = root()?.join("logs");
    std::fs::create_dir_all(&logs)?;
    Ok(logs)
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails; the error carries what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = output.status;
    ensure!(
        status.success(),
        "{command:?} ended with {status}\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// The Java driver on the client named `java` (the newest), `java-3` or `java-2`: the directory with `client/` (jars) and
/// `classes/`.
///
/// # Errors
/// When the package manager fails.
pub fn java(name: &str) -> Result<PathBuf> {
    let sources = package_dir().join("clients/java");
    // What of the admin client has another face before 3.1 lies apart.
    let api = sources.join(if name == "java-2" { "old/Api.java" } else { "new/Api.java" });
    let programs = ["Driver.java", "Copier.java"].map(|program| sources.join(program));
    let inputs = [[sources.join("pom.xml")].as_slice(), &programs, &[api]].concat();
    installed(name, &inputs, |home| {
        tool("javac", &["default-jdk-headless"])?;
        jars(&name.replacen("java", "client", 1), &home.join("client"))?;
        let mut javac = Command::new("javac");
        javac
            .arg("-cp")
            .arg(home.join("client/*"))
            .arg("-d")
            .arg(home.join("classes"))
            .args(&inputs[1..]);
        run(&mut javac).map(drop)
    })
}

/// Kafka's tools and frameworks: the directory with `lib/` (jars of tools and Kafka Streams), `connect/` (jars of Kafka
/// Connect and MirrorMaker 2), `tests/` (jars of Kafka Streams with its own tests) and `classes/` (what hosts them).
///
/// # Errors
/// When the package manager fails.
pub fn kafka_distribution() -> Result<PathBuf> {
    let sources = package_dir().join("clients/kafka");
    let programs = ["ToolHost.java", "WordCount.java"].map(|name| sources.join(name));
    let inputs = [[sources.join("pom.xml")].as_slice(), &programs].concat();
    installed("kafka", &inputs, |home| {
        tool("javac", &["default-jdk-headless"])?;
        dependencies(&sources, &["-P", "tools"], &home.join("lib"))?;
        dependencies(&sources, &["-P", "connect"], &home.join("connect"))?;
        dependencies(&sources, &["-P", "tests"], &home.join("tests"))?;
        compile(&home.join("lib/*"), &home.join("classes"), &programs)
    })
}

/// The consoles' calls in Java: the directory with `newer/` and `older/` (jars of kafka-clients) and `classes/`.
///
/// # Errors
/// When the package manager fails.
pub fn consoles() -> Result<PathBuf> {
    let sources = package_dir().join("clients/consoles");
    let programs = [sources.join("Consoles.java")];
    let inputs = [sources.join("pom.xml"), programs[0].clone()];
    installed("consoles", &inputs, |home| {
        tool("javac", &["default-jdk-headless"])?;
        dependencies(&sources, &["-P", "newer"], &home.join("newer"))?;
        dependencies(&sources, &["-P", "older"], &home.join("older"))?;
        compile(&home.join("older/*"), &home.join("classes"), &programs)
    })
}

/// Redpanda Console's calls, on franz-go.
///
/// # Errors
/// When the package manager or the compiler fails.
pub fn redpanda_console() -> Result<PathBuf> {
    let sources = package_dir().join("clients/consoles");
    let inputs = ["go.mod", "go.sum", "redpanda.go"].map(|name| sources.join(name));
    let home = installed("redpanda-console", &inputs, |home| {
        tool("go", &["golang-go"])?;
        let mut go = Command::new("go");
        go.arg("build").arg("-o").arg(home.join("console")).arg(".").current_dir(&sources);
        run(&mut go).map(drop)
    })?;
    Ok(home.join("console"))
}

/// The schema registry. Newer versions want a newer Java than Debian 12 has.
pub const REGISTRY_VERSION: &str = "3.0.9";

/// The schema registry: the jar that runs it.
///
/// # Errors
/// When the package manager fails.
pub fn registry() -> Result<PathBuf> {
    let artifact = format!("io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all");
    let home = installed(&format!("registry-{REGISTRY_VERSION}"), &[], |home| {
        tool("java", &["default-jdk-headless"])?;
        tool("mvn", &["maven"])?;
        let archive = home.join("archive");
        // Later versions of the plugin look for a parent that the registry's publisher has left out.
        let mut mvn = Command::new("mvn");
        mvn.args(["-q", "-B", "-ntp", "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"]);
        mvn.arg(format!("-Dartifact={artifact}")).arg("-Dtransitive=false");
        run(mvn.arg(format!("-Ddest={}", archive.display())).current_dir(home))?;
        run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(home))?;
        Ok(std::fs::remove_file(archive)?)
    })?;
    Ok(home.join(format!("apicurio-registry-app-{REGISTRY_VERSION}-runner.jar")))
}

/// The guides' example programs in Java: the directory with `lib/` (jars) and `classes/`.
///
/// # Errors
/// When the package manager fails.
pub fn examples() -> Result<PathBuf> {
    let sources = package_dir().join("clients/examples");
    let programs = [package_dir().join("../docs/guides/examples/Payment.java")];
    let inputs = [sources.join("pom.xml"), programs[0].clone()];
    installed("examples", &inputs, |home| {
        tool("javac", &["default-jdk-headless"])?;
        dependencies(&sources, &[], &home.join("lib"))?;
        compile(&home.join("lib/*"), &home.join("classes"), &programs)
    })
}

fn compile(libraries: &Path, into: &Path, programs: &[PathBuf]) -> Result<()> {
    let mut javac = Command::new("javac");
    javac.arg("-cp").arg(libraries).arg("-d").arg(into).args(programs);
    run(&mut javac).map(drop)
}

/// The jars of the Kafka server, for comparison.
///
/// # Errors
/// When the package manager fails.
pub fn kafka_server() -> Result<PathBuf> {
    installed("server", &[package_dir().join("clients/java/pom.xml")], |home| {
        tool("java", &["default-jdk-headless"])?;
        jars("server", home)
    })
}

/// How every JVM here logs.
#[must_use]
pub fn java_logging() -> PathBuf {
    package_dir().join("clients/java/log4j2.properties")
}

/// How the Kafka server logs: it says that it is ready at the level that the clients leave out.
#[must_use]
pub fn kafka_server_logging() -> PathBuf {
    package_dir().join("clients/java/log4j2-server.properties")
}

fn jars(profile: &str, into: &Path) -> Result<()> {
    dependencies(&package_dir().join("clients/java"), &["-P", profile], into)
}

/// Copies what the `pom.xml` in a directory depends on at run time.
fn dependencies(pom: &Path, arguments: &[&str], into: &Path) -> Result<()> {
    tool("mvn", &["maven"])?;
    let mut mvn = Command::new("mvn");
    mvn.args(["-q", "-B", "-ntp"]).args(arguments);
    mvn.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    mvn.arg(format!("-DoutputDirectory={}", into.display())).current_dir(pom);
    run(&mut mvn).map(drop)
}

/// The Python interpreter of the environment with the Python clients.
///
/// # Errors
/// When the package manager fails.
pub fn python() -> Result<PathBuf> {
    python_with("python", "clients/python/requirements.txt")
}

/// The Python interpreter of the environment with the fuzzer of HTTP APIs.
///
/// # Errors
/// When the package manager fails.
pub fn fuzzer() -> Result<PathBuf> {
    python_with("fuzz", "clients/fuzz/requirements.txt")
}

fn python_with(name: &str, requirements: &str) -> Result<PathBuf> {
    let requirements = package_dir().join(requirements);
    let home = installed(name, std::slice::from_ref(&requirements), |home| {
        tool("python3", &["python3", "python3-venv"])?;
        run(Command::new("python3").args(["-m", "venv"]).arg(home))?;
        run(Command::new(home.join("bin/python"))
            .args(["-m", "pip", "install", "-q", "-r"])
            .arg(&requirements))
        .map(drop)
    })?;
    Ok(home.join("bin/python"))
}

/// The directory with the programs for Node and their `node_modules`.
///
/// # Errors
/// When the package manager fails.
pub fn node() -> Result<PathBuf> {
    let sources = package_dir().join("clients/node");
    let inputs = ["package.json", "contract.js", "kafkajs.js", "platformatic.js"]
        .map(|name| sources.join(name));
    installed("node", &inputs, |home| {
        tool("npm", &["nodejs", "npm"])?;
        for input in &inputs {
            std::fs::copy(input, home.join(input.file_name().context("a file has a name")?))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"])
            .current_dir(home);
        run(&mut npm).map(drop)
    })
}

/// The environment for Node of the client that is a binding of librdkafka: both are built from the sources in its package, as
/// no registry has its binaries.
///
/// # Errors
/// When the package manager or the compiler fails.
pub fn node_binding() -> Result<PathBuf> {
    let package = package_dir().join("clients/node/confluent/package.json");
    let home = installed("node-binding", std::slice::from_ref(&package), |home| {
        tool("npm", &["nodejs", "npm"])?;
        tool("make", &["make"])?;
        tool("g++", &["g++"])?;
        header("zlib.h", "zlib1g-dev")?;
        header("zstd.h", "libzstd-dev")?;
        std::fs::copy(&package, home.join("package.json"))?;
        let mut npm = Command::new("nice");
        npm.args(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]);
        npm.current_dir(home);
        // The system's libraries instead of sources to download, and no more at once than the machine has time for.
        npm.env("npm_config_build_from_source", "true").env("CKJS_LINKING", "dynamic");
        npm.env("MAKEFLAGS", "-l4");
        if let Some(prefix) = node_headers()? {
            npm.env("npm_config_nodedir", prefix);
        }
        run(&mut npm).map(drop)
    })?;
    Ok(home.join("node_modules"))
}

/// Below which directory Node's headers lie, if they came with it.
fn node_headers() -> Result<Option<PathBuf>> {
    let node = run(Command::new("node").args(["-p", "process.execPath"]))?;
    let prefix = Path::new(node.trim()).ancestors().nth(2).map(Path::to_owned);
    Ok(prefix.filter(|prefix| prefix.join("include/node/node.h").is_file()))
}

/// The driver on the Go clients.
///
/// # Errors
/// When the package manager or the compiler fails.
pub fn go() -> Result<PathBuf> {
    let sources = package_dir().join("clients/go");
    let inputs =
        ["go.mod", "go.sum", "contract.go", "copier.go", "franzgo.go", "kafkago.go", "sarama.go"]
            .map(|name| sources.join(name));
    let home = installed("go", &inputs, |home| {
        tool("go", &["golang-go"])?;
        run(Command::new("go")
            .arg("build")
            .arg("-o")
            .arg(home.join("driver"))
            .arg(".")
            .current_dir(&sources))
        .map(drop)
    })?;
    Ok(home.join("driver"))
}

/// Debian's kcat.
///
/// # Errors
/// When the package manager fails.
pub fn kcat() -> Result<PathBuf> {
    tool("kcat", &["kcat"])?;
    Ok(PathBuf::from("kcat"))
}

/// librdkafka, built from the sources that the crate of its Rust binding carries: `source/` as built, `lib/` with the
/// shared libraries, `pkgconfig/`, and `made`, which says of what.
///
/// # Errors
/// When the package manager or the compiler fails.
pub fn librdkafka() -> Result<PathBuf> {
    let sources = package_dir().join("clients/rust");
    let inputs = [sources.join("Cargo.toml"), sources.join("Cargo.lock")];
    installed("librdkafka", &inputs, |home| {
        tool("make", &["make"])?;
        tool("g++", &["g++"])?;
        // Without them it builds as well, and then knows fewer codecs.
        header("zlib.h", "zlib1g-dev")?;
        header("zstd.h", "libzstd-dev")?;
        let of = crate_dir("rdkafka-sys")?;
        let source = home.join("source");
        run(Command::new("cp").arg("-r").arg(of.join("librdkafka")).arg(&source))?;
        // Only what no distribution lacks: the brokers here speak plain text.
        let mut configure = Command::new("./configure");
        configure.arg(format!("--prefix={}", home.display()));
        configure.args([
            "--disable-ssl",
            "--disable-gssapi",
            "--disable-curl",
            "--disable-lz4-ext",
        ]);
        run(configure.current_dir(&source))?;
        for part in ["src", "src-cpp"] {
            run(Command::new("make").args(["-j2", "-C"]).arg(source.join(part)))?;
            run(Command::new("make").arg("-C").arg(source.join(part)).arg("install"))?;
        }
        // Who links to it has to know where it lies.
        let version = of.file_name().context("a crate's directory has a name")?.display();
        let made = format!("{version} in {}", home.display());
        Ok(std::fs::write(home.join("made"), made)?)
    })
}

/// Where the sources of a crate lie that the Rust driver is built with.
///
/// # Errors
/// When it is built without it, or the package manager fails.
pub fn crate_dir(name: &str) -> Result<PathBuf> {
    let manifest = package_dir().join("clients/rust/Cargo.toml");
    let mut cargo = cargo();
    cargo.args(["metadata", "--format-version=1", "--locked", "--manifest-path"]).arg(manifest);
    let told: serde_json::Value = serde_json::from_str(&run(&mut cargo)?)?;
    let packages = told["packages"].as_array().context("cargo tells the packages")?;
    let found = packages.iter().find(|package| package["name"] == name);
    let found = found.with_context(|| format!("{name} is not in the lock file"))?;
    let manifest = Path::new(found["manifest_path"].as_str().context("a path is text")?);
    Ok(manifest.parent().context("a manifest lies in a directory")?.to_owned())
}

/// Makes a build link to librdkafka as it was installed, and find it when it runs.
pub fn with_librdkafka(build: &mut Command, library: &Path) {
    let lib = library.join("lib");
    build
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("PKG_CONFIG_PATH", lib.join("pkgconfig"))
        .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{}", lib.display()));
}

/// The driver on the Rust clients.
///
/// # Errors
/// When the package manager or the compiler fails.
pub fn rust() -> Result<PathBuf> {
    let library = librdkafka()?;
    let sources = package_dir().join("clients/rust");
    let inputs = ["src/main.rs", "src/contract.rs", "src/of_rdkafka.rs", "src/of_rskafka.rs"]
        .map(|name| sources.join(name))
        .into_iter()
        .chain([sources.join("Cargo.lock"), library.join("made")])
        .collect::<Vec<_>>();
    let home = installed("rust", &inputs, |home| {
        tool("pkg-config", &["pkg-config"])?;
        let mut build = cargo();
        build.args(["build", "--quiet", "--locked", "-j2", "--manifest-path"]);
        build.arg(sources.join("Cargo.toml")).arg("--target-dir").arg(home.join("target"));
        with_librdkafka(&mut build, &library);
        run(&mut build)?;
        std::fs::copy(home.join("target/debug/braid-compat-rust"), home.join("driver"))?;
        Ok(std::fs::remove_dir_all(home.join("target"))?)
    })?;
    Ok(home.join("driver"))
}

/// Cargo, as it runs this test.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Keeps other threads and processes from installing `name` too.
fn lock(name: &str) -> Result<File> {
    let locks = root()?.join("locks");
    std::fs::create_dir_all(&locks)?;
    let file = File::create(locks.join(name))?;
    file.lock()?;
    Ok(file)
}

/// Runs `install` in an empty directory unless one is there that was made of exactly these inputs.
pub(crate) fn installed(
    name: &str,
    inputs: &[PathBuf],
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let _one_at_a_time = lock(name)?;
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        std::fs::read(input)
            .with_context(|| format!("read {}", input.display()))?
            .hash(&mut hasher);
    }
    installed_below(&root()?, name, &format!("{:016x}", hasher.finish()), install)
}

/// Every try has a directory of its own, which is never moved, as some programs know where they lie. The stamp names the one
/// that came to its end. So whatever a killed run has left, or its package manager still writes, is in nobody's way.
fn installed_below(
    root: &Path,
    name: &str,
    wanted: &str,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let stamp = root.join(format!("{name}.installed"));
    let found = std::fs::read_to_string(&stamp).unwrap_or_default();
    if let Some((of, dir)) = found.split_once(' ')
        && of == wanted
        && root.join(dir).is_dir()
    {
        return Ok(root.join(dir));
    }
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(&format!("{name}."));
        if is_ours && entry.file_type()?.is_dir() {
            // What is still being written goes another time.
            let _removed = std::fs::remove_dir_all(entry.path());
        }
    }
    let home = tempfile::Builder::new().prefix(&format!("{name}.")).tempdir_in(root)?.keep();
    eprintln!("installing {name} into {}", home.display());
    install(&home).with_context(|| format!("install {name}"))?;
    let dir = home.file_name().context("a directory has a name")?.to_string_lossy();
    let written = root.join(format!("{name}.installed.new"));
    std::fs::write(&written, format!("{wanted} {dir}"))?;
    std::fs::rename(written, stamp)?;
    Ok(home)
}

/// Sees to it that a program of the system is there, if need be from Debian's packages.
pub(crate) fn tool(program: &str, packages: &[&str]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = || std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    packaged(program, packages, is_there)
}

/// As [`tool`], for a header of a C library.
fn header(name: &str, package: &str) -> Result<()> {
    let dirs = [Path::new("/usr/include"), Path::new("/usr/local/include")];
    packaged(name, &[package], || dirs.iter().any(|dir| dir.join(name).is_file()))
}

fn packaged(what: &str, packages: &[&str], is_there: impl Fn() -> bool) -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let _one_at_a_time = lock("packages")?;
    if is_there() {
        return Ok(());
    }
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y"])
            .args(arguments))
    };
    let install = || apt(&[&["install", "--no-install-recommends"], packages].concat());
    if install().is_err() {
        apt(&["update"])?;
        install()
            .with_context(|| format!("{what} is missing; install the packages {packages:?}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_clears_what_dead_runs_left_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let (dead, lock) = begin_run(scratch.path()).unwrap();
        drop(lock);
        let (living, _lock) = begin_run(scratch.path()).unwrap();
        let (newest, _lock_too) = begin_run(scratch.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.exists() && newest.exists());
    }
    #[test]
    fn what_is_installed_stays_until_other_inputs_are_wanted() {
        let root = tempfile::tempdir().unwrap();
        let install = |wanted: &str| {
            let mut runs = 0;
            let home = installed_below(root.path(), "client", wanted, |home| {
                runs += 1;
                Ok(std::fs::write(home.join("program"), wanted)?)
            });
            (home.unwrap(), runs)
        };
        let (first, runs) = install("a");
        assert_eq!(runs, 1);
        assert_eq!(install("a"), (first.clone(), 0));
        let (second, runs) = install("b");
        assert_eq!(runs, 1);
        assert_eq!(std::fs::read_to_string(second.join("program")).unwrap(), "b");
        assert!(!first.exists());
        std::fs::remove_dir_all(second).unwrap();
        assert_eq!(install("b").1, 1, "what is gone is installed again");
    }

    #[test]
    fn what_was_not_finished_is_in_nobodys_way() {
        let root = tempfile::tempdir().unwrap();
        let try_it = |name: &str, ends_well: bool| {
            let mut home = PathBuf::new();
            let tried = installed_below(root.path(), name, "a", |dir| {
                home = dir.to_owned();
                assert_eq!(std::fs::read_dir(dir)?.count(), 0, "it begins with nothing");
                std::fs::write(dir.join("half"), "")?;
                ensure!(ends_well, "killed");
                Ok(())
            });
            assert_eq!(tried.is_ok(), ends_well);
            home
        };
        let other = try_it("client-2", true);
        let left = try_it("client", false);
        let good = try_it("client", true);
        assert!(!left.exists() && good.exists() && other.exists());
        // A program of the killed run goes on writing.
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("late"), "").unwrap();
        assert_eq!(try_it("client", true), PathBuf::new(), "and nobody installs again");
        assert!(!good.join("late").exists());
    }
}
