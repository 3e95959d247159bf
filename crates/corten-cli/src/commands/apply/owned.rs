//! What of an object a field manager says, by the server's record of it (`managedFields`, structured-merge-diff's `FieldsV1`).
//!
//! Between reading an object and applying it others write, too: a scheduler, a controller's status. Whether applying changed
//! anything is therefore asked of the manager's own fields, not of the object's version.

use serde_json::Value;

/// Whether what a manager applied is in both versions of an object the same: the same fields, with the same values.
pub(super) fn is_same(manager: &str, before: &Value, after: &Value) -> bool {
    let (earlier, later) = (fields(manager, before), fields(manager, after));
    earlier.is_some() && earlier == later && later.is_some_and(|fields| is_equal(fields, Some(before), Some(after)))
}

/// The fields that a manager applied to the object itself.
fn fields<'a>(manager: &str, object: &'a Value) -> Option<&'a Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let is_its = |entry: &&Value| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().unwrap_or("").is_empty()
    };
    Some(&entries.iter().find(is_its)?["fieldsV1"])
}

/// Compares two values in the fields of a set; one without members owns its value as a whole.
fn is_equal(fields: &Value, before: Option<&Value>, after: Option<&Value>) -> bool {
    let members = fields.as_object().into_iter().flatten().filter(|(key, _)| *key != ".");
    let mut is_leaf = true;
    for (key, inner) in members {
        is_leaf = false;
        if !is_equal(inner, member(before, key), member(after, key)) {
            return false;
        }
    }
    // "." alone says that the value is there, not what is in it.
    !is_leaf || fields.get(".").is_some() || before == after
}

/// What a path element means in a value: `f:NAME`, `k:KEYS` and `v:VALUE` of lists, `i:INDEX`.
fn member<'a>(value: Option<&'a Value>, key: &str) -> Option<&'a Value> {
    let (sort, rest) = key.split_once(':')?;
    let value = value?;
    if sort == "f" {
        return value.get(rest);
    }
    let wanted: Value = serde_json::from_str(rest).ok()?;
    let mut items = value.as_array()?.iter();
    match sort {
        "k" => items.find(|item| {
            wanted
                .as_object()
                .is_some_and(|keys| keys.iter().all(|(key, value)| item[key] == *value))
        }),
        "v" => items.find(|item| **item == wanted),
        "i" => items.nth(usize::try_from(wanted.as_u64()?).ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(image: &str, others: Value, fields: Value) -> Value {
        let mut pod = json!({
            "metadata": {"name": "a", "labels": {"app": "a"}, "managedFields": [
                {"manager": "scheduler", "operation": "Update", "fieldsV1": {"f:spec": {"f:nodeName": {}}}},
                {"manager": "corten", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
                {"manager": "corten", "operation": "Apply", "fieldsV1": fields},
            ]},
            "spec": {"containers": [{"name": "side", "image": "x"}, {"name": "app", "image": image, "args": ["1"]}]},
        });
        pod["spec"]["nodeName"] = others;
        pod
    }

    #[test]
    fn what_others_write_is_not_ours() {
        let fields = json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {".": {}, "f:name": {}, "f:image": {}}}},
        });
        let old = pod("one", Value::Null, fields.clone());
        assert!(is_same("corten", &old, &pod("one", json!("node-a"), fields.clone())));
        assert!(
            !is_same("corten", &old, &pod("two", Value::Null, fields.clone())),
            "a value"
        );
        assert!(
            !is_same("corten", &old, &pod("one", Value::Null, json!({"f:metadata": {}}))),
            "a field less"
        );
        assert!(!is_same("kubectl", &old, &old), "it never applied this");
        let whole = json!({"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:args": {"v:\"1\"": {}}}}}});
        assert!(is_same(
            "corten",
            &pod("one", Value::Null, whole.clone()),
            &pod("two", Value::Null, whole)
        ));
    }
}
