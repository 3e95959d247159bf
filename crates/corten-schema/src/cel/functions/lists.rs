//! Lists: sum, min, max, isSorted, indexOf, lastIndexOf; and lists as sets.

use super::{DYN_TYPE, Declaration, LIST_TYPE, Out, declare, error, no_overload};
use cel::Value;
use std::cmp::Ordering;

pub(super) fn declarations() -> Vec<Declaration> {
    vec![
        declare!(method "sum"(LIST_TYPE) => sum),
        declare!(method "min"(LIST_TYPE) => min),
        declare!(method "max"(LIST_TYPE) => max),
        declare!(method "isSorted"(LIST_TYPE) => is_sorted),
        declare!(method "indexOf"(LIST_TYPE, DYN_TYPE) => index_of),
        declare!(method "lastIndexOf"(LIST_TYPE, DYN_TYPE) => last_index_of),
        declare!(fn "sets.contains"(LIST_TYPE, LIST_TYPE) => contains),
        declare!(fn "sets.equivalent"(LIST_TYPE, LIST_TYPE) => equivalent),
        declare!(fn "sets.intersects"(LIST_TYPE, LIST_TYPE) => intersects),
    ]
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::List(items) => items,
        _ => &[],
    }
}

fn sum(arguments: &[Value]) -> Out {
    let [list] = arguments else {
        return Err(no_overload("sum"));
    };
    let mut items = items(list).iter().cloned();
    let Some(first) = items.next() else {
        return Ok(Value::Int(0));
    };
    items.try_fold(first, |total, item| total + item)
}

fn extreme(name: &str, arguments: &[Value], wanted: Ordering) -> Out {
    let [list] = arguments else {
        return Err(no_overload(name));
    };
    let mut items = items(list).iter();
    let first = items
        .next()
        .ok_or_else(|| error(name, format!("{name} called on empty list")))?;
    let better = items.fold(first, |best, item| {
        if item.partial_cmp(best) == Some(wanted) {
            item
        } else {
            best
        }
    });
    Ok(better.clone())
}

fn min(arguments: &[Value]) -> Out {
    extreme("min", arguments, Ordering::Less)
}

fn max(arguments: &[Value]) -> Out {
    extreme("max", arguments, Ordering::Greater)
}

fn is_sorted(arguments: &[Value]) -> Out {
    let [list] = arguments else {
        return Err(no_overload("isSorted"));
    };
    let sorted = items(list).is_sorted_by(|a, b| matches!(a.partial_cmp(b), Some(Ordering::Less | Ordering::Equal)));
    Ok(Value::Bool(sorted))
}

fn index(position: Option<usize>) -> Value {
    Value::Int(position.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1))
}

fn index_of(arguments: &[Value]) -> Out {
    let [list, wanted] = arguments else {
        return Err(no_overload("indexOf"));
    };
    Ok(index(items(list).iter().position(|item| item == wanted)))
}

fn last_index_of(arguments: &[Value]) -> Out {
    let [list, wanted] = arguments else {
        return Err(no_overload("lastIndexOf"));
    };
    Ok(index(items(list).iter().rposition(|item| item == wanted)))
}

fn has_all(list: &Value, sub: &Value) -> bool {
    items(sub).iter().all(|item| items(list).contains(item))
}

fn contains(arguments: &[Value]) -> Out {
    let [list, sub] = arguments else {
        return Err(no_overload("sets.contains"));
    };
    Ok(Value::Bool(has_all(list, sub)))
}

fn equivalent(arguments: &[Value]) -> Out {
    let [left, right] = arguments else {
        return Err(no_overload("sets.equivalent"));
    };
    Ok(Value::Bool(has_all(left, right) && has_all(right, left)))
}

fn intersects(arguments: &[Value]) -> Out {
    let [left, right] = arguments else {
        return Err(no_overload("sets.intersects"));
    };
    Ok(Value::Bool(items(left).iter().any(|item| items(right).contains(item))))
}
