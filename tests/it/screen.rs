//! A pseudo-terminal: a program in it, what it shows, and a person who types.

use std::io::{Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Operator, eventually};

/// The question before a step.
pub(crate) const GO_ON: &str = "go on?";

/// What the terminal turns into SIGINT.
pub(crate) const CTRL_C: &str = "\x03";

/// How long a question may be in coming: a pod's move on a loaded machine lies before it, or the start of a sandbox.
const PATIENT: Duration = Duration::from_secs(180);

/// Width of the terminal: no line that a test looks for is cut.
const COLUMNS: u16 = 400;

/// Size of the terminal.
const SIZE: PtySize = PtySize { rows: 50, cols: COLUMNS, pixel_width: 0, pixel_height: 0 };

/// A terminal in which the program runs.
pub(crate) struct Screen {
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Ends when the last process of the terminal has ended and all is read.
    reader: JoinHandle<()>,
    /// Up to where the text was read by the person.
    read: usize,
    /// Dropping it would hang up.
    _terminal: Box<dyn MasterPty + Send>,
}

impl Screen {
    /// Runs the shipped binary, in the operator's home directory.
    pub(crate) fn open(operator: &Operator, arguments: &[&str]) -> Result<Screen> {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sts-migrate"));
        command.args(arguments);
        Screen::of_operator(operator, command)
    }

    /// Runs a line in a shell, as the operator.
    pub(crate) fn shell(operator: &Operator, line: &str) -> Result<Screen> {
        let mut command = CommandBuilder::new("/bin/sh");
        command.args(["-c", line]);
        Screen::of_operator(operator, command)
    }

    fn of_operator(operator: &Operator, mut command: CommandBuilder) -> Result<Screen> {
        as_operator(operator, &mut command);
        Screen::start(command)
    }

    /// Runs the shipped binary until it shows `words`, and takes its terminal away. No SIGHUP comes, as
    /// for a program that was disowned: it only cannot write any more.
    pub(crate) async fn lose(
        operator: &Operator,
        arguments: &[&str],
        words: String,
    ) -> Result<Box<dyn Child + Send + Sync>> {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sts-migrate"));
        command.args(arguments);
        as_operator(operator, &mut command);
        command.set_controlling_tty(false);
        let terminal = native_pty_system().openpty(SIZE)?;
        let mut child = terminal.slave.spawn_command(command)?;
        drop(terminal.slave);
        let mut output = terminal.master.try_clone_reader()?;
        let shown = tokio::task::spawn_blocking(move || {
            let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                shown.extend_from_slice(&buffer[..length]);
                if String::from_utf8_lossy(&shown).contains(&words) {
                    return Ok(());
                }
            }
            Err(anyhow::anyhow!("no `{words}` in:\n{}", String::from_utf8_lossy(&shown)))
        });
        if let Err(missing) = shown.await? {
            child.kill()?;
            return Err(missing);
        }
        Ok(child)
    }

    /// Runs a command.
    pub(crate) fn start(mut command: CommandBuilder) -> Result<Screen> {
        command.env("TERM", "xterm");
        let terminal = native_pty_system().openpty(SIZE)?;
        let child = terminal.slave.spawn_command(command)?;
        drop(terminal.slave);
        let mut output = terminal.master.try_clone_reader()?;
        let keyboard = terminal.master.take_writer()?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let screen = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the last process of the terminal has ended.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                screen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Screen { child, keyboard, shown, reader, read: 0, _terminal: terminal.master })
    }

    /// Returns the id of the process.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.process_id()
    }

    /// Returns all that was shown so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until something is shown that was not there at the last answer, and returns all since.
    pub(crate) async fn wait_for(&mut self, wanted: &str) -> Result<String> {
        let read = self.read;
        let found = eventually(format!("`{wanted}`"), PATIENT, async || {
            let text = self.text();
            let fresh = text.get(read..).unwrap_or_default();
            Ok(fresh.find(wanted).map(|at| (read + at + wanted.len(), fresh[..at + wanted.len()].to_owned())))
        })
        .await
        .with_context(|| format!("the screen shows:\n{}", self.text()))?;
        self.read = found.0;
        Ok(found.1)
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) -> Result<()> {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).context("type")
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        self.keyboard.write_all(key.as_bytes()).context("type")
    }

    /// Kills the program as `kill -9` does: it has no time to give anything back.
    pub(crate) async fn kill(mut self) -> Result<()> {
        // The child's own `kill` begins with SIGHUP, which is a polite one.
        let id =
            self.child.process_id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has a process id")?;
        kill_process(id, Signal::KILL)?;
        eventually("the killed program's end", PATIENT, async || Ok(self.child.try_wait()?)).await.map(|_| ())
    }

    /// Answers every question as somebody who agrees, until the program has ended with this exit code.
    pub(crate) async fn agree(mut self, code: u32) -> Result<String> {
        while let Some(answer) = eventually("a question or the end", PATIENT, async || {
            let text = self.text();
            let fresh = text.get(self.read..).unwrap_or_default();
            if let Some((at, answer)) = question(fresh) {
                self.read += at;
                return Ok(Some(Some(answer)));
            }
            Ok(self.child.try_wait()?.map(|_| None))
        })
        .await
        .with_context(|| format!("the screen shows:\n{}", self.text()))?
        {
            self.type_line(&answer)?;
        }
        self.ends_with(code).await
    }

    /// Waits until the program has ended, and checks its exit code.
    pub(crate) async fn ends_with(mut self, code: u32) -> Result<String> {
        let status = eventually("the program to end", PATIENT, async || Ok(self.child.try_wait()?))
            .await
            .with_context(|| format!("the screen shows:\n{}", self.text()))?;
        // What it said last may still be on its way.
        eventually("the rest of the screen", PATIENT, async || Ok(self.reader.is_finished().then_some(()))).await?;
        ensure!(status.exit_code() == code, "{status}, not {code}; the screen shows:\n{}", self.text());
        Ok(self.text())
    }
}

/// Gives a command the operator's environment and home directory, and a kind of terminal.
fn as_operator(operator: &Operator, command: &mut CommandBuilder) {
    command.env_clear();
    for (name, value) in operator.environment() {
        command.env(name, value);
    }
    command.env("TERM", "xterm");
    command.cwd(operator.home());
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

/// Returns where a question ends, and the answer that goes on.
pub(crate) fn question(text: &str) -> Option<(usize, String)> {
    const NAME: &str = "to delete; anything else pauses:";
    for (asked, answer) in [("order [1/2/q]:", "1"), ("[n]o and pause:", "y")] {
        if let Some(at) = text.find(asked) {
            return Some((at + asked.len(), answer.to_owned()));
        }
    }
    let at = text.find(NAME)?;
    let name = text[..at].rsplit("name, ").next()?.split(',').next()?;
    Some((at + NAME.len(), name.to_owned()))
}

/// Returns the lines that stay on the screen: what was drawn over is gone.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\n' => row += 1,
            '\r' => column = 0,
            // A control sequence: numbers, and the letter that says what to do (ECMA-48).
            '\x1b' => {
                let mut number = String::new();
                let act = letters.by_ref().skip(1).find(|letter| {
                    number.extend(Some(*letter).filter(char::is_ascii_digit));
                    letter.is_ascii_alphabetic()
                });
                match act {
                    Some('A') => row -= number.parse().unwrap_or(1).min(row),
                    Some('B') => row += number.parse().unwrap_or(1),
                    Some('K') if number == "2" => lines[row].clear(),
                    Some('K') => lines[row].truncate(column),
                    // Colours, and whether there is a cursor.
                    _ => {}
                }
            }
            letter => {
                if column == usize::from(COLUMNS) {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = letter;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| String::from_iter(line).trim_end().to_owned()).collect()
}
