//! What a request asks for: its path taken apart, its `Accept` header understood.

use hyper::HeaderMap;

use super::query;
use crate::status::Status;

/// A path below `/api` or `/apis`, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty for resources of the cluster, and for namespaced ones across all namespaces.
    pub(crate) namespace: String,
    pub(crate) plural: String,
    pub(crate) name: String,
    /// The rest, such as `status`.
    pub(crate) subresource: String,
}

impl Target {
    /// `widgets.example.org one`, or less when it has no group or name.
    pub(crate) fn qualified(&self) -> String {
        let mut text = self.plural.clone();
        for (mark, part) in [('.', &self.group), (' ', &self.name)] {
            if !part.is_empty() {
                text.push(mark);
                text.push_str(part);
            }
        }
        text
    }
}

/// What a path means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Path {
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/G`
    Group(String),
    /// `/api/V`, `/apis/G/V`
    Resources(String, String),
    /// A resource, an object or a subresource.
    Target(Target),
    /// Everything else, by segments.
    Other(Vec<String>),
}

impl Path {
    pub(crate) fn parse(path: &str) -> Self {
        let segments: Vec<String> = path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(|s| query::decode(s, false))
            .collect();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["api", version] => Self::Resources(String::new(), (*version).to_owned()),
            ["apis", group, version] => Self::Resources((*group).to_owned(), (*version).to_owned()),
            ["api", version, rest @ ..] => Self::Target(target("", version, rest)),
            ["apis", group, version, rest @ ..] => Self::Target(target(group, version, rest)),
            _ => Self::Other(segments),
        }
    }
}

fn target(group: &str, version: &str, rest: &[&str]) -> Target {
    let (namespace, rest) = match rest {
        // The namespace object itself and its subresources are resources of the cluster.
        ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let part = |index: usize| rest.get(index).map_or(String::new(), |s| (*s).to_owned());
    Target {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        plural: part(0),
        name: part(1),
        subresource: rest.get(2..).map(|s| s.join("/")).unwrap_or_default(),
    }
}

/// The form in which objects are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Object,
    Table,
    /// `PartialObjectMetadata`, or its list.
    Metadata,
    /// Aggregated discovery of this version.
    Discovery(&'static str),
}

/// The best form of an `Accept` header that can be served.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<Form, Status> {
    let Some(accept) = headers.get(hyper::header::ACCEPT).and_then(|v| v.to_str().ok()) else {
        return Ok(Form::Object);
    };
    accept.split(',').find_map(form).ok_or_else(|| {
        Status::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/json;stream=watch",
        )
    })
}

fn form(clause: &str) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next()?;
    if !matches!(media, "application/json" | "application/*" | "*/*" | "") {
        return None;
    }
    let parameter = |name: &str| {
        parts
            .clone()
            .filter_map(|p| p.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    match (
        parameter("as").as_deref(),
        parameter("g").as_deref(),
        parameter("v").as_deref(),
    ) {
        (None, ..) => Some(Form::Object),
        (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => Some(Form::Table),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
            Some(Form::Metadata)
        }
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Some(Form::Discovery("v2")),
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
            Some(Form::Discovery("v2beta1"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let target = |namespace: &str, plural: &str, name: &str, subresource: &str| {
            Path::Target(Target {
                group: String::new(),
                version: "v1".to_owned(),
                namespace: namespace.to_owned(),
                plural: plural.to_owned(),
                name: name.to_owned(),
                subresource: subresource.to_owned(),
            })
        };
        for (path, expect) in [
            ("/api", Path::CoreVersions),
            ("/api/v1", Path::Resources(String::new(), "v1".to_owned())),
            ("/api/v1/pods", target("", "pods", "", "")),
            ("/api/v1/namespaces", target("", "namespaces", "", "")),
            ("/api/v1/namespaces/n", target("", "namespaces", "n", "")),
            (
                "/api/v1/namespaces/n/finalize",
                target("", "namespaces", "n", "finalize"),
            ),
            ("/api/v1/namespaces/n/pods", target("n", "pods", "", "")),
            ("/api/v1/namespaces/n/pods/p/log", target("n", "pods", "p", "log")),
            ("/apis/apps", Path::Group("apps".to_owned())),
            ("/healthz", Path::Other(vec!["healthz".to_owned()])),
        ] {
            assert_eq!(Path::parse(path), expect, "{path}");
        }
    }

    #[test]
    fn the_first_form_that_is_served_wins() {
        for (accept, expect) in [
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(Form::Object),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some(Form::Table),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some(Form::Discovery("v2")),
            ),
            (
                "application/json;as=Other;v=v9;g=x,application/json",
                Some(Form::Object),
            ),
            ("application/vnd.kubernetes.protobuf", None),
            ("*/*", Some(Form::Object)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept", accept.parse().expect("a header value"));
            assert_eq!(accepted(&headers).ok(), expect, "{accept}");
        }
    }
}
