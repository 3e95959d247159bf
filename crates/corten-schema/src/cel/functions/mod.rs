//! The functions that Kubernetes adds to CEL, on top of the standard ones and the extensions of the `cel` crate.

mod formats;
mod lists;
mod net;
mod quantity;
mod text;

use cel::common::types::{DYN_TYPE, LIST_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::objects::Opaque;
use cel::{DeclarationError, Env, ExecutionError, Value, extensions};
use std::sync::Arc;

/// The result of a function.
type Out = Result<Value, ExecutionError>;
/// A function over whole values; a member function gets its target first.
type Body = fn(&[Value]) -> Out;

/// A function of ours: the name it is called by, how it is called, its parameters and its body.
struct Declaration {
    name: &'static str,
    member: bool,
    parameters: Vec<Type>,
    function: cel::common::functions::Function,
}

/// Makes a [`Declaration`] of a body; the interpreter takes plain functions only, hence a macro.
macro_rules! declare {
    (fn $name:literal($($parameter:expr),*) => $body:path) => {
        $crate::cel::functions::Declaration {
            name: $name, member: false, parameters: vec![$($parameter),*],
            function: |arguments| $crate::cel::functions::call(&arguments, $body),
        }
    };
    (method $name:literal($($parameter:expr),*) => $body:path) => {
        $crate::cel::functions::Declaration {
            name: $name, member: true, parameters: vec![$($parameter),*],
            function: |arguments| $crate::cel::functions::call(&arguments, $body),
        }
    };
}
use declare;

fn call<'b, 'v>(arguments: &[CowVal<'b, 'v>], body: Body) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let values: Vec<Value> = arguments
        .iter()
        .map(|argument| Value::try_from(argument.as_ref()))
        .collect::<Result<_, _>>()?;
    let result: Box<dyn Val> = body(&values)?.try_into()?;
    Ok(CowVal::Owned(result))
}

fn declarations() -> Vec<Declaration> {
    let mut all = lists::declarations();
    all.extend(text::declarations());
    all.extend(quantity::declarations());
    all.extend(net::declarations());
    all.extend(formats::declarations());
    all
}

/// The environment that rules are compiled and run in.
pub(super) fn environment() -> Env {
    let mut env = Env::stdlib();
    declare_all(&mut env).expect("the names of our functions differ from each other and from the standard ones");
    env
}

fn declare_all(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::math)?;
    env.add_extension(extensions::lists)?;
    for declaration in declarations() {
        let Declaration {
            name,
            member,
            mut parameters,
            function,
        } = declaration;
        let id = format!(
            "k8s_{name}_{}",
            parameters.iter().map(Type::name).collect::<Vec<_>>().join("_")
        );
        if member {
            let target = parameters.remove(0);
            env.add_member_overload(name, &id, target, parameters, function)?;
        } else {
            env.add_overload(name, &id, parameters, function)?;
        }
    }
    Ok(())
}

/// Whether a function name, or the last part of a qualified one, means something. Operators always do.
pub(super) fn is_known(name: &str) -> bool {
    // `lists.range` is left out: it makes lists of any length out of one number.
    const STANDARD: &[&str] = &[
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "bool",
        "type",
        "dyn",
        "duration",
        "timestamp",
        "getFullYear",
        "getMonth",
        "getDayOfYear",
        "getDayOfMonth",
        "getDate",
        "getDayOfWeek",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
        "of",
        "ofNonZeroValue",
        "none",
        "hasValue",
        "value",
        "or",
        "orValue",
        "optMap",
        "optFlatMap",
        "charAt",
        "indexOf",
        "lastIndexOf",
        "join",
        "lowerAscii",
        "upperAscii",
        "replace",
        "split",
        "substring",
        "trim",
        "format",
        "quote",
        "reverse",
        "slice",
        "flatten",
        "distinct",
        "sort",
        "sortBy",
        "greatest",
        "least",
        "ceil",
        "floor",
        "round",
        "trunc",
        "isInf",
        "isNaN",
        "isFinite",
        "abs",
        "sign",
        "bitAnd",
        "bitOr",
        "bitXor",
        "bitNot",
        "bitShiftLeft",
        "bitShiftRight",
        "sqrt",
        "has",
        "all",
        "exists",
        "exists_one",
        "map",
        "filter",
    ];
    static OURS: std::sync::LazyLock<Vec<&'static str>> = std::sync::LazyLock::new(|| {
        declarations()
            .iter()
            .map(|declaration| declaration.name.rsplit('.').next().unwrap_or_default())
            .collect()
    });
    let last = name.rsplit('.').next().unwrap_or(name);
    let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
    operator || STANDARD.contains(&last) || OURS.contains(&last)
}

fn error(function: &str, message: impl Into<String>) -> ExecutionError {
    ExecutionError::FunctionError {
        function: function.to_owned(),
        message: message.into(),
    }
}

/// The arguments do not fit; the interpreter checks types before it calls, so this is for what it cannot check.
fn no_overload(function: &str) -> ExecutionError {
    ExecutionError::no_such_overload(function, Vec::new())
}

fn string(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        _ => "",
    }
}

fn strings(items: impl IntoIterator<Item = String>) -> Value {
    Value::List(Arc::new(
        items.into_iter().map(|item| Value::String(Arc::new(item))).collect(),
    ))
}

fn opaque<T: Opaque>(value: T) -> Value {
    Value::Opaque(Arc::new(value))
}

fn as_opaque<'a, T: Opaque>(value: &'a Value, function: &str) -> Result<&'a T, ExecutionError> {
    match value {
        Value::Opaque(value) => value.downcast_ref::<T>().ok_or_else(|| no_overload(function)),
        _ => Err(no_overload(function)),
    }
}
