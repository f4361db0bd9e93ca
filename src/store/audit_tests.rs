use super::*;

fn entry(id: i64) -> AuditEntry {
    AuditEntry {
        id,
        at: Some(Timestamp::from_millis(1_000 + id)),
        actor: Some("default/ada".into()),
        address: Some("192.0.2.1".into()),
        request: None,
        action: Some("role.granted".into()),
        tenant: Some("default".into()),
        target: Some("ben".into()),
        before: None,
        after: Some(format!(r#"{{"role":"r{id}"}}"#)),
    }
}

/// Four entries, the first three hashed.
fn trail() -> Vec<AuditLink> {
    let mut hash = CHAIN_BEGINS;
    let link = |id| {
        let entry = entry(id);
        hash = entry.hash_after(&hash);
        AuditLink { id, entry: Some(entry), hash: (id < 4).then_some(hash) }
    };
    (1..=4).map(link).collect()
}

fn check(links: &[AuditLink], kept: Option<(i64, ChainHash)>) -> Result<ChainReport, ChainFault> {
    let mut check = ChainCheck::new(kept);
    for link in links {
        check.take(link)?;
    }
    check.end()
}

#[test]
fn a_whole_trail_tells_its_last_hash_and_what_has_none_yet() {
    let links = trail();
    let report = check(&links, None).unwrap();
    assert_eq!(report, ChainReport { last: (3, links[2].hash.unwrap()), open: 1 });
    assert_eq!(check(&links, Some(report.last)), Ok(report));
    assert_eq!(check(&[], None), Ok(ChainReport { last: (0, CHAIN_BEGINS), open: 0 }));
}

#[test]
fn each_part_of_an_entry_counts() {
    let alterations: [fn(&mut AuditEntry); 9] = [
        |e| e.at = None,
        |e| e.actor = Some("default/eve".into()),
        |e| e.address = None,
        |e| e.request = Some(String::new()),
        |e| e.action = Some("role.taken".into()),
        |e| e.tenant = None,
        |e| e.target = Some("max".into()),
        |e| e.before = e.after.clone(),
        |e| e.after = None,
    ];
    for alter in alterations {
        let mut links = trail();
        alter(links[1].entry.as_mut().unwrap());
        assert_eq!(check(&links, None), Err(ChainFault::Altered(2)), "{:?}", links[1]);
    }
}

#[test]
fn what_was_removed_or_put_in_is_named() {
    let mut links = trail();
    links.remove(1);
    assert_eq!(check(&links, None), Err(ChainFault::Missing(2)));
    let mut links = trail();
    links[2].entry = None;
    assert_eq!(check(&links, None), Err(ChainFault::Missing(3)), "the hash is still there");
    let mut links = trail();
    links[1].hash = None;
    assert_eq!(check(&links, None), Err(ChainFault::Unhashed(2)));
    let (links, kept) = (trail(), trail()[2].hash.unwrap());
    assert_eq!(check(&links[..2], Some((3, kept))), Err(ChainFault::Shortened(3)), "entry and hash are gone");
    assert_eq!(check(&links, Some((2, kept))), Err(ChainFault::NotKept(2)), "all was hashed anew");
}
