//! The build itself: `go build` of all tools of one module, with its progress.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use rustix::process::Signal;

use super::{GO_MOD, GO_SUM, READY_BINARIES};

/// How often a line is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Prefix of the directories of builds that have not ended.
const PARTIAL: &str = "partial-";

/// How much of Go's own words an unforeseen failure shows.
const TAIL_LINES: usize = 15;

/// Builds all binaries and puts them at `target`, which then exists with all of them or not at all.
///
/// The caller holds the lock of `cache`.
pub(super) fn build(cache: &Path, target: &Path) -> Result<()> {
    check_go()?;
    remove_leftovers(cache);
    let partial = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(cache).context("create a build directory")?;
    let module = partial.path().join("module");
    let output = partial.path().join("bin");
    fs::create_dir(&module)?;
    fs::create_dir(&output)?;
    fs::write(module.join("go.mod"), GO_MOD)?;
    fs::write(module.join("go.sum"), GO_SUM)?;

    let started = Instant::now();
    eprintln!("bed: building Kubernetes, etcd and the CSI sidecars once for this user (5 to 15 minutes)");
    let packages = count_packages(&module)?;
    compile(&module, &output, packages)?;
    if target.exists() {
        fs::remove_dir_all(target).with_context(|| format!("remove the incomplete {}", target.display()))?;
    }
    fs::rename(&output, target).with_context(|| format!("publish {}", target.display()))?;
    eprintln!("bed: built in {}, kept in {}", HumanDuration(started.elapsed()), target.display());
    Ok(())
}

/// Removes what builds have left that were killed. Nobody else builds: we hold the lock.
fn remove_leftovers(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PARTIAL)) {
        // Left again for the next build where it cannot be removed now.
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Returns the version of Go that the module asks for, such as `1.26.0`.
fn wanted_go() -> &'static str {
    GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default()
}

/// Returns the version of a required module, such as `v1.37.2`.
fn module_version(path: &str) -> &'static str {
    let line = GO_MOD.lines().map(str::trim_start).find_map(|line| line.strip_prefix(path)?.strip_prefix(' '));
    line.and_then(|rest| rest.split(' ').next()).unwrap_or_default()
}

/// Returns a command of Go that depends on nothing that the user has set up for other projects.
fn go(arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    command
        .args(arguments)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .stdin(Stdio::null());
    // SAFETY: prctl is a bare system call; nothing is allocated between fork and exec.
    unsafe {
        // The thread that spawns it waits for it, so the signal means that this process was killed.
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    command
}

/// Returns what all commands of the build have in common.
fn flags() -> Vec<String> {
    let version = module_version("k8s.io/kubernetes");
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let variable = "k8s.io/component-base/version";
    vec![
        "-mod=readonly".into(),
        "-buildvcs=false".into(),
        "-trimpath".into(),
        // Without the version, servers say v0.0.0-master.
        format!(
            "-ldflags=-s -w -X {variable}.gitVersion={version} -X {variable}.gitMajor={major} -X {variable}.gitMinor={minor}"
        ),
    ]
}

fn check_go() -> Result<()> {
    let wanted = wanted_go();
    let instead =
        format!("install it from https://go.dev/dl/ or set {READY_BINARIES} to a directory with ready binaries");
    let output = match go(&["env", "GOVERSION"]).current_dir("/").output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("the bed is built with Go {wanted} or newer and there is no `go` in PATH: {instead}")
        }
        Err(error) => return Err(error).context("run `go env GOVERSION`"),
    };
    let found = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("go").to_owned();
    if !output.status.success() || found.is_empty() {
        bail!("the bed is built with Go {wanted} or newer and `go env GOVERSION` does not work: {instead}");
    }
    if version_numbers(&found) < version_numbers(wanted) {
        bail!("the bed is built with Go {wanted} or newer and the `go` in PATH is {found}: {instead}");
    }
    Ok(())
}

/// Returns the numbers of a version for comparison: `1.26rc1` is `[1, 26]`.
fn version_numbers(version: &str) -> Vec<u32> {
    let number = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    version.split(['.', '-', ' ']).map_while(number).collect()
}

/// Downloads what is not there and returns how many packages have to be compiled.
fn count_packages(module: &Path) -> Result<u64> {
    let spinner = ProgressBar::new_spinner().with_message("downloading Go modules");
    if super::draws() {
        spinner.enable_steady_tick(Duration::from_millis(100));
    } else {
        eprintln!("bed: downloading Go modules");
    }
    let output = go(&["list", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"])
        .args(flags())
        .arg("tool")
        .current_dir(module)
        .output()
        .context("run `go list`")?;
    spinner.finish_and_clear();
    if !output.status.success() {
        return Err(explain(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).count() as u64)
}

/// Compiles, and shows one step for each package that Go names.
fn compile(module: &Path, output: &Path, packages: u64) -> Result<()> {
    let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos}/{len} packages, {eta} left")?;
    let bar = ProgressBar::new(packages).with_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(500));
    let mut child = go(&["build", "-v", "-o"])
        .arg(output.join(""))
        .args(flags())
        .arg("tool")
        .current_dir(module)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run `go build`")?;
    let mut talk = String::new();
    let mut printed = Instant::now();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.context("read from `go build`")?;
            bar.inc(1);
            if !super::draws() && printed.elapsed() > LINE_EVERY {
                printed = Instant::now();
                eprintln!("bed: {} of {packages} packages compiled", bar.position());
            }
            talk.push_str(&line);
            talk.push('\n');
        }
    }
    let status = child.wait().context("wait for `go build`")?;
    bar.finish_and_clear();
    if status.success() { Ok(()) } else { Err(explain(&talk)) }
}

/// Turns Go's words into an error that says what to do where that is known.
fn explain(talk: &str) -> anyhow::Error {
    let network = [
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "proxyconnect",
        "TLS handshake",
        "network is unreachable",
        "module lookup disabled",
    ];
    if let Some(line) = talk.lines().find(|line| network.iter().any(|words| line.contains(words))) {
        return anyhow!(
            "the bed needs the network once, to download Go modules, and cannot reach it ({}): \
             connect it, set GOPROXY to a reachable proxy, or set {READY_BINARIES} to a directory with ready binaries",
            line.trim(),
        );
    }
    if talk.contains("no space left on device") {
        return anyhow!(
            "the disk is full: the bed's build needs about 6 GB in Go's caches and the temporary directory"
        );
    }
    let lines: Vec<&str> = talk.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    anyhow!("the bed could not be built; the end of what Go says:\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_module_file() {
        assert_eq!(wanted_go(), "1.26.0");
        assert_eq!(module_version("k8s.io/kubernetes"), "v1.37.2");
        assert!(flags().iter().any(|flag| flag.contains("gitVersion=v1.37.2 ") && flag.contains("gitMinor=37")));
    }

    #[test]
    fn go_versions_are_compared_by_number() {
        assert!(version_numbers("1.9.7") < version_numbers("1.26.0"));
        assert!(version_numbers("1.26.8") > version_numbers("1.26.0"));
        assert!(version_numbers("2.0") > version_numbers("1.26.0"));
        assert_eq!(version_numbers("1.27rc1"), [1, 27]);
    }

    #[test]
    fn a_failed_download_is_told_from_a_failed_build() {
        let error = explain("go: k8s.io/api@v0.37.2: Get \"https://proxy/x\": dial tcp: lookup proxy: no such host\n");
        assert!(error.to_string().starts_with("the bed needs the network once"), "{error}");
        let error = explain("x.go:1:1: syntax error\n");
        assert!(error.to_string().ends_with("what Go says:\nx.go:1:1: syntax error"), "{error}");
    }
}
