//! A robot's own process with a replicated storage: a Zenoh peer, no router.
//!
//! ```sh
//! cargo run --release --example embedded -- 7 .data-7 tcp/127.0.0.1:7470
//! cargo run --release --example embedded -- 8 .data-8 tcp/127.0.0.1:7471 tcp/127.0.0.1:7470
//! ```
//!
//! It holds `fleet/**`, writes its own state to it, and says what it knows of the others
//! when it is asked on its standard input, by the commands below. What it writes is there at once, whether or not the others can be reached, and the others
//! have it when they can.

use std::io::{BufRead, Write};

use serde_json::json;
use zenoh::{Config, Wait};
use zenoh_backend_mst::serve::Storage;

fn config(listen: &str, connect: &[String]) -> zenoh::Result<Config> {
    // By timestamps a storage knows what is newer; a peer makes none unless it is told to.
    let config = json!({
        "mode": "peer",
        "listen": { "endpoints": [listen] },
        "connect": { "endpoints": connect },
        "scouting": { "multicast": { "enabled": false } },
        "timestamping": { "enabled": true },
    });
    Config::from_json5(&config.to_string())
}

async fn run(number: &str, folder: &str, listen: &str, connect: &[String]) -> zenoh::Result<()> {
    let session = zenoh::open(config(listen, connect)?).await?;
    let storage = Storage::builder("fleet/**")
        .name("fleet")
        .root(folder)
        .option("replication", json!({ "sync_interval": "1s" }))
        .open(&session)
        .await?;
    let own = format!("fleet/robot/{number}");
    storage.put(&own, "ready").await?;
    let mut out = std::io::stdout();
    writeln!(out, "robot {number} has {}", storage.root())?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["list"] => {
                // Its own storage answers, as those of others do.
                for reply in session.get("fleet/**").wait()? {
                    if let Ok(sample) = reply.result() {
                        let value = sample.payload().to_bytes();
                        let value = String::from_utf8_lossy(&value);
                        write!(out, "{} {value};", sample.key_expr())?;
                    }
                }
                writeln!(out)?;
            }
            ["get", key] => {
                let held = storage.get(key).await?;
                let value = held.map(|held| held.payload.to_bytes().into_owned());
                let value = value.map(|value| String::from_utf8_lossy(&value).into_owned());
                writeln!(out, "{}", value.unwrap_or_else(|| "nothing".to_owned()))?;
            }
            // Published, so that subscribers hear of it; the storage takes it as they do.
            ["publish", key, value] => {
                session.put(key, value).await?;
                writeln!(out, "published")?;
            }
            ["put", key, value] => {
                storage.put(key, value).await?;
                writeln!(out, "put")?;
            }
            ["delete", key] => {
                storage.delete(key).await?;
                writeln!(out, "deleted")?;
            }
            ["root"] => writeln!(out, "{}", storage.root())?,
            ["quit"] => break,
            _ => writeln!(
                out,
                "list, get KEY, put KEY VALUE, publish KEY VALUE, delete KEY, root, quit"
            )?,
        }
        out.flush()?;
    }
    storage.close().await
}

fn main() -> zenoh::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [number, folder, listen, connect @ ..] = &arguments[..] else {
        return Err("usage: embedded NUMBER FOLDER LISTEN [CONNECT...]".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    runtime.block_on(run(number, folder, listen, connect))
}
