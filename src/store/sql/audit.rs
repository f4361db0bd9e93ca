//! The audit trail: read, chained, and told of sign-ins that were refused. All else in it triggers write.

use crate::domain::Timestamp;
use crate::store::audit::{AuditEntry, AuditLink, AuditQuery, CHAIN_BEGINS, ChainHash, RefusedSignIns};

use super::statement::{Ask, Row, Value, args, get, malformed};
use super::writer::{Fault, Transaction, Work};

/// Entries that are hashed in one go: bounds how long it keeps the writer.
const CHAINED_AT_ONCE: i64 = 256;

/// Hashes what has no hash yet.
pub(in crate::store) struct Chain;

impl Work for Chain {
    /// How many entries it hashed.
    type Answer = usize;
    const LASTS: bool = false;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<usize, Fault> {
        const LAST: &str = "SELECT id, hash FROM audit_chain ORDER BY id DESC LIMIT 1";
        const OPEN: &str = "SELECT id, at, actor, address, request, action, tenant, target, before, after FROM audit \
             WHERE id > $1 ORDER BY id LIMIT $2";
        const HASHED: &str = "INSERT INTO audit_chain (id, hash) VALUES ($1, $2)";
        let (mut last, mut hash) = match transaction.all(LAST, vec![])?.first() {
            None => (0, CHAIN_BEGINS),
            Some(row) => (get::<i64>(row, "id")?, chain_hash(row)?.unwrap_or(CHAIN_BEGINS)),
        };
        let open = transaction.all(OPEN, args![last, CHAINED_AT_ONCE])?;
        let mut hashed = 0;
        for row in &open {
            let entry = entry(row)?;
            // A gap stays one, for whoever verifies to find; what lies behind it is not vouched for.
            if entry.id != last + 1 {
                break;
            }
            hash = entry.hash_after(&hash);
            last = entry.id;
            transaction.execute(HASHED, args![last, &hash[..]])?;
            hashed += 1;
        }
        Ok(hashed)
    }
}

/// Tells of sign-ins that were refused.
pub(in crate::store) struct Refusals(pub(in crate::store) Vec<RefusedSignIns>);

impl Work for Refusals {
    type Answer = ();
    const LASTS: bool = false;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        const NOTE: &str = "INSERT INTO trail (action, tenant, target, after) VALUES ('sign_in.refused', $1, $2, $3)";
        for refused in &self.0 {
            let address = Some(refused.address.as_str()).filter(|address| !address.is_empty());
            transaction.act("anonymous", address, None)?;
            let (tenant, user) = refused.user.as_ref().map(|(tenant, user)| (tenant.as_str(), user.as_str())).unzip();
            let after = serde_json::json!({ "count": refused.count }).to_string();
            transaction.execute(NOTE, args![tenant, user, after])?;
        }
        Ok(())
    }
}

/// Whether something has no hash yet.
pub(in crate::store) async fn is_open(readers: &mut impl Ask) -> Result<bool, sqlx::Error> {
    const OPEN: &str = "SELECT COALESCE((SELECT MAX(id) FROM audit), 0) > COALESCE((SELECT MAX(id) FROM audit_chain), 0) \
         AS open";
    get(&readers.one(OPEN, vec![]).await?, "open")
}

/// Entries as they are asked for, in order.
pub(in crate::store) async fn entries(
    readers: &mut impl Ask,
    asked: &AuditQuery,
) -> Result<Vec<AuditEntry>, sqlx::Error> {
    macro_rules! find {
        ($place:literal) => {
            concat!(
                "SELECT id, at, actor, address, request, action, tenant, target, before, after FROM audit WHERE ",
                $place,
                " AND id > $2 AND ($3 IS NULL OR actor = $3) \
                  AND ($4 IS NULL OR action = $4 OR substr(action, 1, length($4) + 1) = $4 || '.') \
                  AND ($5 IS NULL OR target = $5) AND ($6 IS NULL OR at >= $6) AND ($7 IS NULL OR at < $7) \
                  ORDER BY id LIMIT $8"
            )
        };
    }
    let sql = if asked.tenant.is_some() { find!("tenant = $1") } else { find!("$1 IS NULL") };
    let args = args![
        asked.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()),
        asked.after,
        asked.actor.clone(),
        asked.action.clone(),
        asked.target.clone(),
        asked.since,
        asked.until,
        i64::from(asked.limit),
    ];
    readers.all(sql, args).await?.iter().map(|row| entry(row)).collect()
}

/// The places of the trail behind `after`, also those where only a hash stands.
pub(in crate::store) async fn links(
    readers: &mut impl Ask,
    after: i64,
    limit: u32,
) -> Result<Vec<AuditLink>, sqlx::Error> {
    const LINKS: &str = "SELECT p.id AS place, a.id, a.at, a.actor, a.address, a.request, a.action, a.tenant, a.target, \
             a.before, a.after, c.hash \
         FROM (SELECT id FROM (SELECT id FROM audit WHERE id > $1 ORDER BY id LIMIT $2) entries \
               UNION SELECT id FROM (SELECT id FROM audit_chain WHERE id > $1 ORDER BY id LIMIT $2) hashes) p \
             LEFT JOIN audit a ON a.id = p.id LEFT JOIN audit_chain c ON c.id = p.id \
         ORDER BY p.id LIMIT $2";
    let rows = readers.all(LINKS, args![after, i64::from(limit)]).await?;
    rows.iter()
        .map(|row| {
            let stands = get::<Option<i64>>(row, "id")?.is_some();
            Ok(AuditLink {
                id: get(row, "place")?,
                entry: if stands { Some(entry(row)?) } else { None },
                hash: chain_hash(row)?,
            })
        })
        .collect()
}

fn chain_hash(row: &dyn Row) -> Result<Option<ChainHash>, sqlx::Error> {
    let bytes: Option<&[u8]> = get(row, "hash")?;
    // One of another length is none that we made.
    Ok(bytes.map(|bytes| bytes.try_into().unwrap_or([0xff; 32])))
}

/// What a shell put there is shown, whatever it is.
fn entry(row: &dyn Row) -> Result<AuditEntry, sqlx::Error> {
    let text = |column| {
        Ok::<_, sqlx::Error>(match row.value(column)? {
            Value::Null => None,
            Value::Int(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.to_owned()),
            Value::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        })
    };
    let at = match row.value("at")? {
        Value::Null => None,
        Value::Int(millis) => Some(Timestamp::from_millis(millis)),
        Value::Text(_) | Value::Blob(_) => return Err(malformed("at")),
    };
    Ok(AuditEntry {
        id: get(row, "id")?,
        at,
        actor: text("actor")?,
        address: text("address")?,
        request: text("request")?,
        action: text("action")?,
        tenant: text("tenant")?,
        target: text("target")?,
        before: text("before")?,
        after: text("after")?,
    })
}
