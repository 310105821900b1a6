//! Tables for people, and the last line for programs.

use std::ops::Range;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::logs::{Downtime, Move};
use super::program::Run;

/// How many ordinals one row of [`growth`] is about.
const ROW: usize = 100;

/// A column: its title, and what it shows.
type Column = (&'static str, fn(&Downtime) -> f64);

const COLUMNS: [Column; 8] = [
    ("grace", |downtime| downtime.grace),
    ("unmount", |downtime| downtime.unmount),
    ("detach", |downtime| downtime.detach),
    ("added", |downtime| downtime.added),
    ("(EC2)", |downtime| downtime.asking_ec2),
    ("attach", |downtime| downtime.attach),
    ("start", |downtime| downtime.start),
    ("all", Downtime::whole),
];

/// Prints where the downtime of the pods went.
pub(crate) fn downtimes(moves: &[(&str, &Move)]) {
    println!("Downtime per pod in milliseconds, from the delete in a to Ready in b:\n");
    let titles: Vec<String> = COLUMNS.iter().map(|(title, _)| format!("{title:>8}")).collect();
    println!("| {:<25} |{} |", "", titles.join(" |"));
    println!("|-{:-<25}-|{}", "", "--------:|".repeat(COLUMNS.len()));
    for (mover, moved) in moves {
        for (what, pick) in [("median", median as fn(Vec<f64>) -> f64), ("worst", worst)] {
            let cells: Vec<String> =
                COLUMNS.iter().map(|(_, value)| format!("{:>8.1}", pick(all(moved, *value)))).collect();
            println!("| {:<25} |{} |", format!("{mover} ({}), {what}", moved.downtimes.len()), cells.join(" |"));
        }
    }
    println!(
        "\nadded: from the later of VolumeAttachment 404 and EC2 `available` until the scale-up reaches b's API\n\
         server; (EC2): the part of it in which EC2 is being asked.\n"
    );
}

/// Prints what grows with the number of ordinals, and what does not.
pub(crate) fn growth(moved: &Move, run: &Run) {
    println!("| ordinals | ms per ordinal | added, median | mutating | reads | EC2 calls | MiB resident |");
    println!("|---------:|---------------:|--------------:|---------:|------:|----------:|-------------:|");
    for (row, downtimes) in moved.downtimes.chunks(ROW).enumerate() {
        let (Some(first), Some(last)) = (downtimes.first(), downtimes.last()) else { continue };
        let time = first.begin..last.end;
        let ordinals = downtimes.len() as f64;
        let per_ordinal = |calls: usize| calls as f64 / ordinals;
        let whole = (time.end.duration_since(time.start).as_secs_f64() * 1000.0) / ordinals;
        let added = median(downtimes.iter().map(|downtime| downtime.added).collect());
        let mutating = per_ordinal(moved.mutating.iter().filter(|call| time.contains(&call.at)).count());
        let reads = per_ordinal(within(&moved.reads, &time));
        let ec2_calls = per_ordinal(within(&moved.ec2_calls, &time));
        let resident = run.memory.iter().take_while(|memory| memory.at < time.end).last();
        println!(
            "| {:>8} | {whole:>14.0} | {added:>13.1} | {mutating:>8.1} | {reads:>5.1} | {ec2_calls:>9.1} | {:>12.1} |",
            format!("{}-{}", row * ROW, row * ROW + downtimes.len() - 1),
            resident.map_or(0.0, |memory| memory.resident),
        );
    }
    println!();
}

/// Prints the calls of a whole migration, and what the process took.
pub(crate) fn calls(moved: &Move, run: &Run) {
    let ordinals = moved.downtimes.len() as f64;
    println!("Calls of sts-migrate over the whole migration, finalize included:");
    println!("  {:.2} mutating per ordinal, and {:.2} per volume", per_ordinal(moved), per_volume(moved));
    println!(
        "  {:.1} reads of API servers and {:.2} calls to EC2 per ordinal",
        moved.reads.len() as f64 / ordinals,
        moved.ec2_calls.len() as f64 / ordinals
    );
    println!("It needed {:.1} MiB, and said something after {:.1} ms.", run.peak(), start(run));
}

/// Returns the last line.
pub(crate) fn json(moved: &Move, runbook: Option<&Move>, run: &Run) -> Value {
    let added = |moved: &Move| all(moved, |downtime| downtime.added);
    let own = median(added(moved));
    let others = runbook.map(|runbook| median(added(runbook)));
    json!({
        "addedMedianMs": rounded(own),
        "addedMaxMs": rounded(worst(added(moved))),
        "runbookAddedMedianMs": others.map(rounded),
        "ratio": others.map(|others| (own / others * 10_000.0).round() / 10_000.0),
        "mutatingPerOrdinal": rounded(per_ordinal(moved)),
        "mutatingPerVolume": rounded(per_volume(moved)),
        "residentMb": rounded(run.peak()),
        "startMs": rounded(start(run)),
    })
}

/// Returns the calls that change something but claims and PersistentVolumes, for each ordinal.
fn per_ordinal(moved: &Move) -> f64 {
    let calls = moved.mutating.iter().filter(|call| !call.is_of_volume).count();
    calls as f64 / moved.downtimes.len() as f64
}

/// Returns the calls that change claims and PersistentVolumes, for each volume: one per ordinal.
fn per_volume(moved: &Move) -> f64 {
    let calls = moved.mutating.iter().filter(|call| call.is_of_volume).count();
    calls as f64 / moved.downtimes.len() as f64
}

fn start(run: &Run) -> f64 {
    run.first_output.as_secs_f64() * 1000.0
}

fn all(moved: &Move, value: fn(&Downtime) -> f64) -> Vec<f64> {
    moved.downtimes.iter().map(value).collect()
}

fn within(times: &[Timestamp], range: &Range<Timestamp>) -> usize {
    times.iter().filter(|at| range.contains(at)).count()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

fn worst(values: Vec<f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
