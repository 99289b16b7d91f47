//! Puts and gets through a real zenohd, by the volume and by the plugin, beside Zenoh's own
//! memory volume: gets of keys
//! right after the puts, wildcard gets when the router has come to rest.
//!
//! `cargo bench --bench router [-- KEYS]`, after `make build tools`; with
//! `ONLY=durable` only of the volume with that in its name. One Rust client; loopback
//! only; every router it starts it ends.

mod common;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{median, ratio};
use zenoh::{Config, Session, Wait, qos::CongestionControl, sample::Locality};

const VALUE: usize = 100;
const RUNS: usize = 5;
const GETS: u32 = 3_000;
/// Keys that match a wildcard get, about.
const MATCHING: u32 = 1_000;
/// Wildcard gets of which the median is taken, each of other keys.
const WILDCARD_GETS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

struct Router {
    process: Child,
    port: u16,
}

impl Drop for Router {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn zenohd() -> PathBuf {
    let zenohd = project().join(".tools/zenohd-1.10.2/bin/zenohd");
    assert!(
        zenohd.is_file(),
        "no {}: run `make tools`",
        zenohd.display()
    );
    zenohd
}

/// The storage behind one door: of the volume, or, if the options begin with a `key_expr`, of
/// the plugin.
fn plugins(storage: &str, libraries: &Path, root: &Path) -> String {
    let (libraries, root) = (libraries.display(), root.display());
    if storage.starts_with("{ key_expr") {
        return format!(
            r#"{{ mst: {{
                __required__: true,
                backend: "{libraries}/libzenoh_backend_mst.so",
                root: "{root}",
                storages: {{ bench: {storage} }},
            }} }}"#
        );
    }
    format!(
        r#"{{ storage_manager: {{
            __required__: true,
            backend_search_dirs: ["{libraries}"],
            volumes: {{ mst: {{ root: "{root}" }} }},
            storages: {{ bench: {{ key_expr: "bench/**", volume: {storage} }} }},
        }} }}"#
    )
}

impl Router {
    fn start(volume: &str, root: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let libraries = project().join("target/release");
        let config = format!(
            r#"{{
                mode: "router",
                listen: {{ endpoints: ["tcp/127.0.0.1:{port}"] }},
                scouting: {{ multicast: {{ enabled: false }} }},
                timestamping: {{ enabled: {{ router: true, peer: true, client: true }} }},
                plugins_loading: {{ enabled: true, search_dirs: ["{libraries}/examples"] }},
                plugins: {plugins},
            }}"#,
            libraries = libraries.display(),
            plugins = plugins(volume, &libraries, root),
        );
        let path = root.join("zenohd.json5");
        std::fs::write(&path, config).expect("the configuration is written");
        let process = Command::new(zenohd())
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .spawn()
            .expect("zenohd starts");
        Self { process, port }
    }

    /// Waits until it has done what it put off.
    fn wait_until_idle(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.ticks();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let ticks = self.ticks();
            if ticks <= before + 3 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the router does not come to rest"
            );
            before = ticks;
        }
    }

    fn connect(&self) -> Session {
        let config = format!(
            r#"{{ mode: "client", connect: {{ endpoints: ["tcp/127.0.0.1:{}"], timeout_ms: 20000, exit_on_failure: true }},
                scouting: {{ multicast: {{ enabled: false }} }} }}"#,
            self.port
        );
        zenoh::open(Config::from_json5(&config).expect("a configuration"))
            .wait()
            .expect("a session")
    }

    fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// The time that it had a processor, in ticks of a hundredth of a second.
    fn ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // After the name, which is in brackets: user time and system time.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.filter_map(|field| field.parse::<u64>().ok()).sum()
    }
}

/// The keys are in so many groups, each of which a wildcard get asks for.
fn groups(keys: u32) -> u32 {
    keys.div_ceil(MATCHING).max(WILDCARD_GETS)
}

fn key(number: u32, keys: u32) -> String {
    format!("bench/{}/{number}", number % groups(keys))
}

fn get(session: &Session, selector: &str) -> usize {
    let replies = session
        .get(selector)
        .allowed_destination(Locality::Remote)
        .wait()
        .expect("a get");
    replies
        .iter()
        .filter(|reply| reply.result().is_ok())
        .count()
}

/// Not to be dropped where the router is slower than the client.
fn put(session: &Session, key: &str, value: u8) {
    session
        .put(key, vec![value; VALUE])
        .congestion_control(CongestionControl::Block)
        .wait()
        .expect("a put");
}

#[derive(Default)]
struct Figures {
    puts: Vec<Duration>,
    gets: Vec<Duration>,
    wildcard: Vec<Duration>,
    resident: u64,
    /// Of the router, for the puts.
    ticks: Vec<Duration>,
}

fn measure(volume: &str, keys: u32, figures: &mut Figures) {
    let root = tempfile::tempdir().expect("a folder");
    let router = Router::start(volume, root.path());
    let session = router.connect();
    let deadline = Instant::now() + PATIENCE;
    // The storage may not be there yet.
    loop {
        put(&session, "bench/warm", 0);
        if get(&session, "bench/warm") > 0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{volume}: the storage does not answer"
        );
    }
    let put_all = |value: u8| {
        let start = Instant::now();
        for number in 0..keys {
            put(&session, &key(number, keys), value);
        }
        // Samples are processed in order: when the last is there, all are.
        let last = format!("bench/last/{value}");
        put(&session, &last, value);
        while get(&session, &last) == 0 {
            assert!(start.elapsed() < PATIENCE, "{volume}: puts are not stored");
        }
        start.elapsed()
    };
    put_all(1);
    let before = router.ticks();
    figures.puts.push(put_all(2));
    let ticks = router.ticks() - before;
    figures.ticks.push(Duration::from_millis(10 * ticks));
    figures.resident = router.resident_bytes();

    let latencies = (0..GETS).map(|i| {
        let start = Instant::now();
        assert_eq!(
            get(&session, &key(i * 7919 % keys, keys)),
            1,
            "{volume}: not stored"
        );
        start.elapsed()
    });
    figures.gets.push(median(latencies.collect()));
    router.wait_until_idle();
    let wildcard = (0..WILDCARD_GETS).map(|i| {
        let start = Instant::now();
        let found = get(&session, &format!("bench/{i}/**"));
        assert_eq!(found as u32, (keys - i).div_ceil(groups(keys)), "{volume}");
        start.elapsed()
    });
    figures.wildcard.push(median(wildcard.collect()));
}

fn main() {
    let keys: u32 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(100_000);
    let volumes = [
        ("zenoh's memory volume", r#""memory""#),
        ("mst, memory", r#"{ id: "mst", persistence: "memory" }"#),
        ("mst, durable, interval", r#"{ id: "mst" }"#),
        (
            "plugin, memory",
            r#"{ key_expr: "bench/**", persistence: "memory" }"#,
        ),
        ("plugin, durable", r#"{ key_expr: "bench/**" }"#),
    ];
    let only = std::env::var("ONLY").unwrap_or_default();
    let volumes: Vec<_> = volumes
        .into_iter()
        .filter(|(name, _)| name.contains(&only))
        .collect();
    let mut figures: Vec<_> = volumes.iter().map(|_| Figures::default()).collect();
    for _ in 0..RUNS {
        // In turn, so that what else the machine does hits all alike.
        for ((_, volume), figures) in volumes.iter().zip(&mut figures) {
            measure(volume, keys, figures);
        }
    }
    println!(
        "{keys} keys, {VALUE}-byte values, medians of {RUNS} runs; in brackets against the first line"
    );
    let mut first = None;
    for ((name, _), figures) in volumes.iter().zip(figures) {
        let medians = [figures.puts, figures.gets, figures.wildcard, figures.ticks].map(median);
        let [puts, gets, wildcard, ticks] = medians;
        let [first_puts, first_gets, first_wildcard, first_ticks] = *first.get_or_insert(medians);
        println!(
            "{name:24} {:>4.0}k puts/s (rate {}; processor time of the router {:.1?} a put, {}), get p50 {gets:.0?} ({}), wildcard get {wildcard:.1?} ({}), resident {} MiB",
            f64::from(keys) / puts.as_secs_f64() / 1000.0,
            ratio(first_puts, puts),
            ticks / keys,
            ratio(ticks, first_ticks),
            ratio(gets, first_gets),
            ratio(wildcard, first_wildcard),
            figures.resident >> 20,
        );
    }
}
