//! Verifies a folder: every cell, and the tree of all.

use std::path::Path;

use serde_json::{Value, json};
use zenoh_backend_mst::{
    cell::{CellKey, Version},
    hex,
    store::{CellStore as _, DurableStore},
};

use super::folder::{open, scan};
use crate::{
    commands::verify::Findings,
    exit::{Answer, Error},
    output::Output,
    progress::Progress,
};

/// Verifies a folder.
pub(super) fn verify(output: Output, dir: &Path) -> Result<Answer, Error> {
    let findings = examine(&open(dir)?)?;
    let document = json!({ "checked": findings.checked, "damaged": findings.damaged });
    output.either(&document, |output| findings.text(output))?;
    Ok(Answer::of(findings.damaged.is_empty()))
}

/// A damaged cell, in the form in which a router tells of it.
fn damage((key, version): &(CellKey, Version), reason: String) -> Value {
    json!({
        "key": key.key.to_string(),
        "part": hex::encode(key.part.as_bytes()),
        "timestamp": version.timestamp.to_string(),
        "reason": reason,
    })
}

/// Reads every cell, computes its digest, and compares it with the one that is
/// kept; and checks the tree of all.
pub(super) fn examine(store: &DurableStore) -> Result<Findings, Error> {
    let (loaded, scanned) = scan(store);
    let mut findings = Findings::default();
    match scanned {
        Err(error) if error.is_damage() => {
            let reason = format!("{error}; what comes after it was not read");
            findings.damaged.push(json!({ "reason": reason }));
        }
        scanned => scanned?,
    }
    let progress = Progress::new("verifying");
    let of = Some(loaded.entries.len() as u64);
    for entry in &loaded.entries {
        let (key, version) = entry;
        let reason = match store.view().read(key) {
            Ok(Some((cell, _))) if Version::of(key, &cell) == *version => None,
            Ok(Some(_)) => Some("it is not what its digest says".to_owned()),
            Ok(None) => Some("it was there a moment ago, and is not".to_owned()),
            Err(error) if error.is_damage() => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let found = reason.map(|reason| damage(entry, reason));
        findings.damaged.extend(found);
        findings.checked += 1;
        progress.set(findings.checked, of);
    }
    let quarantined = loaded.quarantined.iter();
    let lost = "it was found damaged before, and no other replica has sent it since";
    let lost = quarantined.map(|entry| damage(entry, lost.to_owned()));
    findings.damaged.extend(lost);
    let Ok(checked) = loaded.tree().check();
    if let Err(violation) = checked {
        let reason = format!("the tree is wrong: {violation}");
        findings.damaged.push(json!({ "reason": reason }));
    }
    Ok(findings)
}
