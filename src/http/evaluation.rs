//! The questions of AuthZEN as they stand in a body. Members that we do not know are for others, and ignored.

use serde_json::{Map, Value};

use super::json::child;
use super::problem::{Fault, Problem};
use crate::domain::Permission;

/// Most evaluations in one request.
const EVALUATIONS_MAX: usize = 1000;

/// May this user do this?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// A user's id, or what is none.
    pub subject: String,
    /// `subject.properties.tenant`.
    pub tenant: Option<String>,
    resource: String,
    /// `resource.id`.
    id: Option<String>,
    action: String,
}

/// When the answers may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Semantic {
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

/// Several questions.
#[derive(Debug)]
pub struct Asked {
    /// `None` where there is no list: then the default is the question.
    pub questions: Option<Vec<Question>>,
    /// What stands beside the list.
    pub default: Result<Question, Problem>,
    pub semantic: Semantic,
}

impl Question {
    /// `resource.type:action.name`, and `:resource.id` where there is one; `None` where that is no permission.
    pub fn permission(&self) -> Option<Permission> {
        let id = self.id.as_ref().map(|id| format!(":{id}")).unwrap_or_default();
        format!("{}:{}{id}", self.resource, self.action).parse().ok()
    }
}

/// The body of `/access/v1/evaluation`.
pub fn read_one(body: Option<Value>) -> Result<Question, Problem> {
    question(&object("", body.unwrap_or(Value::Null))?, "")
}

/// The body of `/access/v1/evaluations`.
pub fn read_many(body: Option<Value>) -> Result<Asked, Problem> {
    let mut body = object("", body.unwrap_or(Value::Null))?;
    let list = body.remove("evaluations");
    let semantic = semantic(body.remove("options"))?;
    let questions = match list {
        None => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(Value::Array(items)) if items.len() > EVALUATIONS_MAX => {
            return Err(Problem::invalid_at("/evaluations", "at most 1000 are wanted"));
        }
        Some(Value::Array(items)) => Some(items.into_iter().enumerate().map(|item| merged(&body, item)).collect()),
        Some(_) => return Err(Problem::invalid_at("/evaluations", "a list is wanted")),
    };
    Ok(Asked { questions: questions.transpose()?, default: question(&body, ""), semantic })
}

/// An item's members stand for those beside the list, as wholes.
fn merged(defaults: &Map<String, Value>, (index, item): (usize, Value)) -> Result<Question, Problem> {
    let pointer = format!("/evaluations/{index}");
    let mut whole = defaults.clone();
    whole.extend(object(&pointer, item)?);
    question(&whole, &pointer)
}

fn semantic(options: Option<Value>) -> Result<Semantic, Problem> {
    let Some(options) = options else { return Ok(Semantic::ExecuteAll) };
    match object("/options", options)?.get("evaluations_semantic").map(Value::as_str) {
        None | Some(Some("execute_all")) => Ok(Semantic::ExecuteAll),
        Some(Some("deny_on_first_deny")) => Ok(Semantic::DenyOnFirstDeny),
        Some(Some("permit_on_first_permit")) => Ok(Semantic::PermitOnFirstPermit),
        Some(_) => Err(Problem::invalid_at(
            "/options/evaluations_semantic",
            "execute_all, deny_on_first_deny or permit_on_first_permit is wanted",
        )),
    }
}

fn object(pointer: &str, value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(Problem::invalid_at(pointer, "an object is wanted")),
    }
}

fn question(body: &Map<String, Value>, pointer: &str) -> Result<Question, Problem> {
    let mut reader = Reader { faults: Vec::new() };
    let subject = reader.part(body, pointer, "subject");
    let resource = reader.part(body, pointer, "resource");
    let action = reader.part(body, pointer, "action");
    if let Some((at, subject)) = &subject
        && reader.text(subject, at, "type").is_some_and(|kind| kind != "user")
    {
        reader.fault(child(at, "type"), "user is wanted");
    }
    let tenant = subject.as_ref().and_then(|(at, subject)| {
        let properties = reader.maybe(subject, at, "properties", Value::as_object, "an object is wanted")?;
        reader.maybe(properties, &child(at, "properties"), "tenant", Value::as_str, "a string is wanted")
    });
    let id = resource
        .as_ref()
        .and_then(|(at, resource)| reader.maybe(resource, at, "id", Value::as_str, "a string is wanted"));
    let question = (|| {
        let (at, subject) = subject.as_ref()?;
        let subject = reader.text(subject, at, "id");
        let (at, resource) = resource.as_ref()?;
        let resource = reader.text(resource, at, "type");
        let (at, action) = action.as_ref()?;
        let action = reader.text(action, at, "name");
        Some(Question {
            subject: subject?.to_owned(),
            tenant: tenant.map(str::to_owned),
            resource: resource?.to_owned(),
            id: id.map(str::to_owned),
            action: action?.to_owned(),
        })
    })();
    match question {
        Some(question) if reader.faults.is_empty() => Ok(question),
        _ => Err(Problem::invalid(reader.faults)),
    }
}

struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    fn fault(&mut self, pointer: String, detail: &'static str) {
        self.faults.push(Fault { pointer, detail: detail.into() });
    }

    fn part<'a>(
        &mut self,
        body: &'a Map<String, Value>,
        pointer: &str,
        name: &str,
    ) -> Option<(String, &'a Map<String, Value>)> {
        let at = child(pointer, name);
        match body.get(name).map(Value::as_object) {
            Some(Some(members)) => return Some((at, members)),
            Some(None) => self.fault(at, "an object is wanted"),
            None => self.fault(at, "is missing"),
        }
        None
    }

    fn text<'a>(&mut self, members: &'a Map<String, Value>, pointer: &str, name: &str) -> Option<&'a str> {
        if !members.contains_key(name) {
            self.fault(child(pointer, name), "is missing");
        }
        self.maybe(members, pointer, name, Value::as_str, "a string is wanted")
    }

    fn maybe<'a, T: ?Sized>(
        &mut self,
        members: &'a Map<String, Value>,
        pointer: &str,
        name: &str,
        read: impl Fn(&'a Value) -> Option<&'a T>,
        rule: &'static str,
    ) -> Option<&'a T> {
        let value = read(members.get(name)?);
        if value.is_none() {
            self.fault(child(pointer, name), rule);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers<T: std::fmt::Debug>(asked: Result<T, Problem>) -> Vec<String> {
        asked.unwrap_err().errors().iter().map(|fault| fault.pointer.clone()).collect()
    }

    fn asks(resource: &Value) -> Option<String> {
        let body = json!({
            "subject": {"type": "user", "id": "ben", "properties": {"tenant": "acme", "more": 1}},
            "resource": resource,
            "action": {"name": "read"},
            "context": {"time": "now"},
        });
        let question = read_one(Some(body)).unwrap();
        assert_eq!((question.subject.as_str(), question.tenant.as_deref()), ("ben", Some("acme")));
        question.permission().map(|permission| permission.to_string())
    }

    #[test]
    fn type_action_and_id_are_a_permission() {
        assert_eq!(asks(&json!({"type": "invoices"})).as_deref(), Some("invoices:read"));
        assert_eq!(asks(&json!({"type": "invoices", "id": "42"})).as_deref(), Some("invoices:read:42"));
        assert_eq!(asks(&json!({"type": "invoices", "id": ""})), None, "an empty id is no segment");
        assert_eq!(asks(&json!({"type": "invoices", "id": "*"})), None, "a request never holds a star");
        assert_eq!(asks(&json!({"type": "Invoices"})), None);
    }

    #[test]
    fn every_fault_is_pointed_at() {
        assert_eq!(pointers(read_one(None)), [""]);
        assert_eq!(pointers(read_one(Some(json!({})))), ["/subject", "/resource", "/action"]);
        let bad =
            json!({"subject": {"type": "group", "properties": []}, "resource": {"type": 1, "id": 2}, "action": {}});
        assert_eq!(
            pointers(read_one(Some(bad))),
            ["/subject/type", "/subject/properties", "/resource/id", "/subject/id", "/resource/type", "/action/name"]
        );
    }

    #[test]
    fn items_take_what_they_lack_from_beside_the_list() {
        let body = json!({
            "subject": {"type": "user", "id": "ben"},
            "action": {"name": "read"},
            "evaluations": [{"resource": {"type": "a"}}, {"resource": {"type": "b"}, "action": {"name": "write"}}],
            "options": {"evaluations_semantic": "deny_on_first_deny"},
        });
        let asked = read_many(Some(body)).unwrap();
        let asks: Vec<String> = asked.questions.unwrap().iter().map(|q| q.permission().unwrap().to_string()).collect();
        assert_eq!(asks, ["a:read", "b:write"]);
        assert_eq!(asked.semantic, Semantic::DenyOnFirstDeny);
        assert_eq!(pointers(read_many(Some(json!({"evaluations": [{}]}))))[0], "/evaluations/0/subject");
        let unknown = json!({"evaluations": [], "options": {"evaluations_semantic": "maybe"}});
        assert_eq!(pointers(read_many(Some(unknown))), ["/options/evaluations_semantic"]);
        assert!(read_many(Some(json!({}))).unwrap().questions.is_none());
    }
}
