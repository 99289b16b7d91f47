//! `mstctl members`

use std::collections::BTreeSet;

use serde_json::json;

use super::Context;
use crate::{
    args::{Forget, Members},
    connection::Request,
    exit::{Answer, Error},
    output::{Tone, safe, short},
    replicas::{Peer, Replica, storage},
};

pub(super) fn run(context: &Context, args: &Members) -> Result<Answer, Error> {
    match args {
        Members::Forget(args) => forget(context, args),
    }
}

/// The peers of a replica, if it is replicated.
fn peers(replica: &Replica) -> impl Iterator<Item = &Peer> {
    let replication = replica.status.replication.iter();
    replication.flat_map(|replication| &replication.peers)
}

/// The absent replica whose identity begins so, of those that these replicas know.
fn absent(replicas: &[Replica], wanted: &str) -> Result<String, Error> {
    let begins = wanted.to_ascii_lowercase();
    let is_there = |identity: &str| {
        let mut replicas = replicas.iter();
        replicas.any(|replica| replica.base.replica.to_string() == identity)
    };
    let known = || replicas.iter().flat_map(peers);
    let fitting = known().filter(|peer| peer.replica.starts_with(&begins));
    let fitting: Vec<&Peer> = fitting.collect();
    let here = fitting.iter().filter(|peer| peer.present);
    let here = here.map(|peer| peer.replica.clone());
    let here = here.chain(
        replicas
            .iter()
            .map(|replica| replica.base.replica.to_string()),
    );
    let here: BTreeSet<String> = here.filter(|id| id.starts_with(&begins)).collect();
    let gone: BTreeSet<&str> = fitting
        .iter()
        .map(|peer| peer.replica.as_str())
        .filter(|id| !here.contains(*id) && !is_there(id))
        .collect();
    match (gone.len(), gone.first(), here.first()) {
        (1, Some(only), _) => Ok((*only).to_owned()),
        (0, _, Some(here)) => Err(Error::Usage(format!(
            "replica {} is there, and only one that is gone can be forgotten",
            safe(here)
        ))),
        (0, ..) => Err(Error::NoSuch {
            what: "absent replica",
            wanted: safe(wanted),
            found: known()
                .filter(|peer| !peer.present)
                .map(|peer| safe(&peer.replica))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        }),
        _ => Err(Error::Several {
            what: "absent replicas",
            option: "more digits",
            found: gone.into_iter().map(safe).collect(),
        }),
    }
}

fn forget(context: &Context, args: &Forget) -> Result<Answer, Error> {
    let connection = context.connect()?;
    let replicas = context.choice().of_one_storage(connection.replicas()?)?;
    let member = absent(&replicas, &args.member)?;
    let knows = |replica: &&Replica| peers(replica).any(|peer| peer.replica == member);
    let mut forgot = Vec::new();
    for replica in replicas.iter().filter(knows) {
        if !args.dry_run {
            let request = Request::to(&replica.base, "control/forget").with("member", &member);
            connection.change(request)?;
        }
        forgot.push(replica.base.replica.to_string());
    }
    let document = json!({
        "member": member,
        "forgotten_by": forgot,
        "dry_run": args.dry_run,
    });
    context.output.either(&document, |output| {
        let by: Vec<String> = forgot.iter().map(|id| short(id)).collect();
        let of = replicas.first().map(|replica| storage(&replica.base.group));
        let text = format!(
            "replica {} of {} {} by {}",
            short(&member),
            of.unwrap_or_default(),
            match args.dry_run {
                true => "would be forgotten",
                false => "is forgotten",
            },
            by.join(", ")
        );
        output.paint(Tone::Good, &text)
    })?;
    Ok(Answer::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::tests::replica;

    fn knowing(id: u8, others: &[(&str, bool)]) -> Replica {
        let peers: Vec<_> = others
            .iter()
            .map(|(other, present)| json!({ "replica": other, "present": present }))
            .collect();
        let base = replica("a/**", id, 0).base;
        Replica::new(base, json!({ "replication": { "peers": peers } }))
    }

    #[test]
    fn who_is_gone_can_be_named_by_a_beginning() {
        let here = "02".repeat(16);
        let (gone, also) = ("0f".repeat(16), "0e".repeat(16));
        let all = [
            knowing(1, &[(&here, true), (&gone, false), (&also, false)]),
            knowing(2, &[(&gone, false)]),
        ];
        assert_eq!(absent(&all, "0F").ok(), Some(gone.clone()));
        let several = absent(&all, "0").expect_err("several");
        assert!(several.to_string().contains(&also), "{several}");
        let there = absent(&all, "02").expect_err("there");
        assert!(there.to_string().contains("is there"), "{there}");
        let nobody = absent(&all, "f").expect_err("nobody");
        assert_eq!(nobody.code(), 3);
        assert!(nobody.to_string().contains(&gone), "{nobody}");
        // Who answers is there, whatever another thinks.
        let doubtful = [knowing(1, &[(&here, false)]), knowing(2, &[])];
        assert!(absent(&doubtful, "02").is_err());
    }
}
