//! Strict JSON bodies. What is not well-formed is 400; what breaks a rule is 422 with a pointer to each fault.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev, web};
use futures_util::StreamExt as _;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::{Fault, Problem};
use crate::domain::limits::{BATCH_BYTES_MAX, BODY_BYTES_MAX, BODY_WITHIN};
use crate::protocol::problem::ProblemType;

/// The JSON of a request of at most `MAX` bytes; `None` where it has no body.
#[derive(Debug)]
pub struct JsonBody<const MAX: usize = BODY_BYTES_MAX>(pub Option<Value>);

/// The larger body of `/batch`.
pub type BatchBody = JsonBody<BATCH_BYTES_MAX>;

impl<const MAX: usize> JsonBody<MAX> {
    /// Reads it. For handlers that must authenticate before they look at the body; the rest extract.
    pub async fn read(request: &HttpRequest, payload: dev::Payload) -> Result<Option<Value>, Problem> {
        let bytes = read_bytes(request, payload, MAX).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        expect_json(request)?;
        parse(&bytes).map(Some)
    }
}

impl<const MAX: usize> FromRequest for JsonBody<MAX> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move { Self::read(&request, payload).await.map(Self) })
    }
}

/// All bytes of a body, or 413; 408 where they do not come in time, as after an upgrade that nobody asked for.
pub async fn read_bytes(request: &HttpRequest, payload: dev::Payload, max: usize) -> Result<web::BytesMut, Problem> {
    let read = tokio::time::timeout(BODY_WITHIN, read_whole(request, payload, max)).await;
    read.unwrap_or_else(|_| Err(Problem::of_status(StatusCode::REQUEST_TIMEOUT)))
}

async fn read_whole(request: &HttpRequest, mut payload: dev::Payload, max: usize) -> Result<web::BytesMut, Problem> {
    let too_large = || Problem::new(ProblemType::TooLarge, format!("a body here has at most {max} bytes"));
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max)) {
        return Err(too_large());
    }
    let mut bytes = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::malformed("the body could not be read to its end"))?;
        if bytes.len() + chunk.len() > max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// 415 unless the body is said to be JSON, as it is.
fn expect_json(request: &HttpRequest) -> Result<(), Problem> {
    let unsupported = |detail| Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return unsupported("a body here is not compressed");
    }
    let is_json = match request.mime_type() {
        Ok(Some(mime)) => {
            let json = mime.subtype() == "json" || mime.suffix().is_some_and(|suffix| suffix == "json");
            let utf8 = mime.get_param("charset").is_none_or(|charset| charset == "utf-8");
            mime.type_() == "application" && json && utf8
        }
        _ => false,
    };
    if is_json { Ok(()) } else { unsupported("a body here is application/json") }
}

/// Well-formed JSON, or 400. Of two members of one name it is not clear which is meant: that is not well-formed either.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| Problem::malformed(format!("the body is no JSON: {error}")))
}

/// Reads any JSON, but refuses objects that name a member twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the member {name:?} is there twice")));
            }
            let value = members.next_value_seed(Self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// An object whose members are taken out one by one. All faults are collected; what is left at the end is unknown.
#[derive(Debug)]
pub struct Object {
    pointer: String,
    /// Of what is no object, nothing is said to be missing.
    well_formed: bool,
    members: Map<String, Value>,
    faults: Vec<Fault>,
}

/// What a member can be read as.
pub trait Member: Sized {
    /// Reads it, or says which rule it breaks.
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self>;
}

impl Object {
    /// The body itself. Without a body: an object without members.
    pub fn body(value: Option<Value>) -> Self {
        Self::at("", value.unwrap_or_else(|| Value::Object(Map::new())))
    }

    /// An object somewhere in the body.
    pub fn at(pointer: &str, value: Value) -> Self {
        let (pointer, well_formed) = (pointer.to_owned(), value.is_object());
        let mut object = Self { pointer, well_formed, members: Map::new(), faults: Vec::new() };
        match value {
            Value::Object(members) => object.members = members,
            _ => object.fault("", "an object is wanted"),
        }
        object
    }

    /// A member that need not be there.
    pub fn optional<T: Member>(&mut self, name: &str) -> Option<T> {
        let value = self.members.remove(name)?;
        T::read(value, &child(&self.pointer, name), &mut self.faults)
    }

    /// A member that must be there.
    pub fn required<T: Member>(&mut self, name: &str) -> Option<T> {
        if self.well_formed && !self.members.contains_key(name) {
            self.fault(name, "is missing");
        }
        self.optional(name)
    }

    /// A member that may be `null`, which is another thing than not being there.
    pub fn nullable<T: Member>(&mut self, name: &str) -> Option<Option<T>> {
        if self.members.get(name).is_some_and(Value::is_null) {
            self.members.remove(name);
            return Some(None);
        }
        self.optional(name).map(Some)
    }

    /// A member that cannot be changed, and so may only be what it is.
    pub fn unchanged(&mut self, name: &str, is: &str) {
        if self.members.remove(name).is_some_and(|value| value.as_str() != Some(is)) {
            self.fault(name, "cannot be changed");
        }
    }

    /// Notes a fault of a member, or with an empty name of the object.
    pub fn fault(&mut self, name: &str, detail: &'static str) {
        let pointer = if name.is_empty() { self.pointer.clone() } else { child(&self.pointer, name) };
        self.faults.push(Fault { pointer, detail: detail.into() });
    }

    /// What was made of the members, unless there was any fault or a member that nobody knows.
    pub fn finish<T>(self, made: Option<T>) -> Result<T, Problem> {
        let mut faults = Vec::new();
        self.finish_into(made, &mut faults).ok_or_else(|| Problem::invalid(faults))
    }

    /// The same within a larger body.
    pub fn finish_into<T>(mut self, made: Option<T>, faults: &mut Vec<Fault>) -> Option<T> {
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        for name in unknown {
            self.fault(&name, "is not known here");
        }
        let whole = self.faults.is_empty();
        faults.append(&mut self.faults);
        made.filter(|_| whole)
    }
}

/// The pointer to a member (RFC 6901).
pub fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn refuse<T>(pointer: &str, detail: &'static str, faults: &mut Vec<Fault>) -> Option<T> {
    faults.push(Fault { pointer: pointer.to_owned(), detail: detail.into() });
    None
}

impl Member for Value {
    fn read(value: Value, _: &str, _: &mut Vec<Fault>) -> Option<Self> {
        Some(value)
    }
}

impl Member for bool {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        value.as_bool().or_else(|| refuse(pointer, "true or false is wanted", faults))
    }
}

impl Member for u32 {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let number = value.as_u64().and_then(|number| number.try_into().ok());
        number.or_else(|| refuse(pointer, "a whole number is wanted", faults))
    }
}

impl Member for String {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => refuse(pointer, "a string is wanted", faults),
        }
    }
}

impl<T: Member> Member for Vec<T> {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let Value::Array(items) = value else { return refuse(pointer, "a list is wanted", faults) };
        let known = faults.len();
        let read = |(index, item)| T::read(item, &format!("{pointer}/{index}"), faults);
        let list: Vec<T> = items.into_iter().enumerate().filter_map(read).collect();
        (faults.len() == known).then_some(list)
    }
}

/// Reads a string by its own grammar.
pub fn read_text<T>(
    value: Value,
    pointer: &str,
    faults: &mut Vec<Fault>,
    parse: impl FnOnce(String) -> Result<T, &'static str>,
) -> Option<T> {
    let text = String::read(value, pointer, faults)?;
    parse(text).map_or_else(|rule| refuse(pointer, rule, faults), Some)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
