//! The store on a disk whose power is cut, that fails, that is full, or slow.
//!
//! The parent starts workers, which are this program with an [interposer] of system calls.

mod check;
mod cut;
mod failing;
mod full;
mod history;
mod image;
mod interposer;
mod killed;
mod power_cuts;
mod recording;
mod slow;
mod workload;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio, exit},
    sync::Arc,
    time::Instant,
};

use failing::Failing;
use interposer::{Fault, Interposer};
use killed::Killed;
use power_cuts::{Plan, PowerCuts, Tried};
use slow::Slow;

/// What is tried is the same in each run, but for what the threads of the engine do. The soak has other
/// seeds.
const FIRST_SEED: u64 = 1;

/// Of each some 100 images and 70 double crashes.
const SEEDS: u64 = 42;

const PLAN: Plan = Plan {
    lives: 2,
    steps: 14,
    images: 50,
    double_every: 6,
    doubles: 3,
};

/// Those of stores in which most of what is written dies.
const DEATHS: u64 = 6;

/// Processes that are killed.
const KILLED: u64 = 12;

/// What is kept of a seed that failed.
const KEPT: [&str; 4] = ["life", "recovery", "image", "double"];

/// A worker gives up after so many.
const MAX_FAILED: usize = 5;

/// Places of each kind at which a call fails.
const FAULTS: [(Fault, u64); 4] = [
    (Fault::Write, 300),
    (Fault::Full, 300),
    (Fault::Sync, 300),
    (Fault::Read, 100),
];

const WORKERS: u64 = 2;

/// Those of faults wait more than they compute.
const FAULT_WORKERS: u64 = 6;

fn main() {
    let args: Vec<String> = env::args().collect();
    let path = |index: usize| Path::new(&args[index]);
    match args.get(1).map(String::as_str) {
        Some("--cuts") => cuts(path(2), number(&args[3]), number(&args[4]), false),
        Some("--deaths") => cuts(path(2), number(&args[3]), number(&args[4]), true),
        Some("--rotation") => rotation(path(2), number(&args[3])),
        Some("--faults") => faults(path(2), number(&args[3]), number(&args[4])),
        Some("--killed") => killed(path(2), number(&args[3]), number(&args[4])),
        Some("--live") => killed::live(path(2), number(&args[3])),
        Some("--slow") => slow(path(2)),
        Some("--fill") => full::fill(path(2), &args[3]),
        Some("--go-on") => full::go_on(path(2), number(&args[3])),
        // The test runner's flags (`--list`, filters) come here too.
        Some("--list") => println!("power: test"),
        _ => parent(),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn variable(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| number(&text))
}

/// A worker: all images of so many seeds.
fn cuts(folder: &Path, first: u64, seeds: u64, are_deaths: bool) {
    let cuts = PowerCuts {
        folder: folder.to_owned(),
        disk: Arc::new(Interposer::of_this_process()),
        plan: match are_deaths {
            true => Plan {
                steps: 3 * PLAN.steps,
                ..PLAN
            },
            false => PLAN,
        },
    };
    let (mut tried, mut failed) = (Tried::default(), 0);
    for seed in first..first + seeds {
        let result = match are_deaths {
            true => cuts.try_deaths(seed),
            false => cuts.try_seed(seed),
        };
        match result {
            Ok(more) => tried.add(more),
            Err(reason) => {
                println!("FAILED: {reason}");
                let kept = folder.join(format!("failed-{seed}"));
                fs::create_dir(&kept).expect("a folder");
                for name in KEPT.iter().filter(|name| folder.join(name).exists()) {
                    fs::rename(folder.join(name), kept.join(name)).expect("kept");
                }
                failed += 1;
                if failed == MAX_FAILED {
                    break;
                }
            }
        }
    }
    let what = match are_deaths {
        true => "power cuts, while cells die",
        false => "power cuts",
    };
    println!("{what}: {tried:?}");
    // How many there are depends on the threads of the engine.
    if are_deaths && failed == 0 && tried.halfway == 0 {
        println!("FAILED: in no image something was dying");
        failed += 1;
    }
    if failed > 0 {
        println!(
            "what there is of those that failed is in {}",
            folder.display()
        );
        exit(1);
    }
}

/// A worker: few images, each of which has a large journal.
fn rotation(folder: &Path, seed: u64) {
    let cuts = PowerCuts {
        folder: folder.to_owned(),
        disk: Arc::new(Interposer::of_this_process()),
        plan: Plan {
            images: 16,
            doubles: 2,
            ..PLAN
        },
    };
    match cuts.try_rotation(seed) {
        Ok(tried) => println!("the engine's journal: {tried:?}"),
        Err(reason) => {
            println!("FAILED: another journal, seed {seed}: {reason}");
            exit(1);
        }
    }
}

/// A worker: its share of the places of each kind.
fn faults(folder: &Path, worker: u64, seed: u64) {
    let failing = Failing {
        folder: folder.to_owned(),
        disk: Arc::new(Interposer::of_this_process()),
    };
    let mut failed = 0;
    for (fault, places) in FAULTS {
        match failing.try_fault(
            fault,
            places.div_ceil(FAULT_WORKERS),
            seed.wrapping_add(worker * 1_000),
        ) {
            Ok(tried) => println!("{fault:?}: {tried:?}"),
            Err(reason) => {
                println!("FAILED: {reason}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        exit(1);
    }
}

/// A worker: of so many seeds a process that is killed.
fn killed(folder: &Path, first: u64, seeds: u64) {
    let killed = Killed {
        folder: folder.to_owned(),
        disk: Arc::new(Interposer::of_this_process()),
    };
    let mut images = 0;
    for seed in first..first + seeds {
        match killed.try_seed(seed) {
            Ok(more) => images += more,
            Err(reason) => {
                println!("FAILED: {reason}");
                exit(1);
            }
        }
    }
    println!("{seeds} processes killed, the power lost after that: {images} images");
}

fn slow(folder: &Path) {
    let slow = Slow {
        folder: folder.to_owned(),
        disk: Arc::new(Interposer::of_this_process()),
    };
    println!("{}", slow.writers_share_syncs());
    slow.nobody_else_waits();
}

fn parent() {
    let first = variable("MST_POWER_SEED", FIRST_SEED);
    let seeds = variable("MST_POWER_SEEDS", SEEDS);
    let start = Instant::now();
    println!("{seeds} seeds; MST_POWER_SEED={first}");
    let library = interposer::build(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let folder = memory().join(format!("mst-power-{}", std::process::id()));
    let spawn = |what: &str, number: u64, args: [u64; 2]| {
        let folder = folder.join(format!("{what}-{number}"));
        fs::create_dir_all(&folder).expect("a folder");
        let mut command = interposer::interposed(&library);
        command
            .arg(format!("--{what}"))
            .arg(&folder)
            .args(args.map(|arg| arg.to_string()));
        command
            .stdin(Stdio::null())
            .spawn()
            .expect("a worker starts")
    };
    let mut failed = 0;
    let mut wait = |children: Vec<Child>| {
        for mut child in children {
            failed += usize::from(!child.wait().expect("it ends").success());
        }
    };
    let share = |seeds: u64, worker: u64| {
        let begin = |worker: u64| first + seeds * worker / WORKERS;
        [begin(worker), begin(worker + 1) - begin(worker)]
    };
    let mut share_out = |what: &str, seeds: u64| {
        let workers = 0..WORKERS;
        wait(
            workers
                .map(|worker| spawn(what, worker, share(seeds, worker)))
                .collect(),
        );
        println!("{:.1?}", start.elapsed());
    };
    share_out("cuts", seeds);
    share_out("deaths", (seeds * DEATHS).div_ceil(SEEDS));
    wait(
        (0..FAULT_WORKERS)
            .map(|worker| spawn("faults", worker, [worker, first]))
            .collect(),
    );
    println!("{:.1?}", start.elapsed());
    let killed = KILLED.min(seeds);
    for seed in first..first + killed {
        let folder = folder.join(format!("killed-0/{seed}"));
        killed::kill_one(&library, &folder, seed);
    }
    wait(vec![
        spawn("rotation", 0, [first, 0]),
        spawn("slow", 0, [0, 0]),
        spawn("killed", 0, [first, killed]),
    ]);
    println!("{}", full::limited(&folder.join("limited")));
    println!("{}", full::mounted(&folder.join("mounted")));
    println!("{:.1?}", start.elapsed());
    if failed > 0 {
        println!(
            "{failed} failed; what there is of them is in {}",
            folder.display()
        );
        exit(1);
    }
    fs::remove_dir_all(&folder).expect("removed");
}

/// Where syncs cost nothing, if there is such a place.
fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.to_owned(),
        false => env::temp_dir(),
    }
}
