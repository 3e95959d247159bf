//! The API over HTTPS as client libraries see it: kube-rs against a served API, with nothing mocked in between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::{Api, Client, DeleteOptions, Patch, ServerConfig, pki::Pki, resources, serve};
use corten_rt::TaskGroup;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use serde_json::{Value, json};

/// A served API.
struct Served {
    api: Arc<Api>,
    tasks: TaskGroup,
    address: SocketAddr,
    pki: Pki,
}

impl Served {
    async fn start(dir: &Path, address: &str) -> Self {
        let api = Api::open(dir).expect("the store opens");
        let pki = Pki::open(dir).expect("keys are made");
        // The port of the life before may still be settling.
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let address = listener.local_addr().expect("it is bound");
        let tasks = TaskGroup::new("test");
        let config = ServerConfig {
            listeners: vec![listener],
            pki: pki.clone(),
            api: api.clone(),
        };
        serve(config, &tasks).expect("it is served");
        Self {
            api,
            tasks,
            address,
            pki,
        }
    }

    async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
        self.api.close();
    }

    fn client(&self) -> Client {
        Client::new(self.api.clone(), "test")
    }

    async fn kube(&self) -> kube::Client {
        let kubeconfig = self.pki.kubeconfig("test", &format!("https://{}", self.address));
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("it is a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a configuration");
        kube::Client::try_from(config).expect("a client")
    }
}

async fn namespace(client: &Client) {
    let namespace = json!({ "metadata": { "name": "n" } });
    client.create(&resources::NAMESPACES, namespace).await.expect("created");
}

fn config_map(name: &str, value: usize) -> Value {
    json!({ "metadata": { "name": name, "namespace": "n" }, "data": { "v": value.to_string() } })
}

/// What a watcher believes, from its events alone.
#[derive(Default)]
struct Belief {
    objects: BTreeMap<String, String>,
    fresh: BTreeMap<String, String>,
}

impl Belief {
    fn see(&mut self, event: watcher::Event<ConfigMap>) {
        let entry = |object: &ConfigMap| {
            let data = object.data.clone().unwrap_or_default();
            (
                object.metadata.name.clone().unwrap_or_default(),
                data.get("v").cloned().unwrap_or_default(),
            )
        };
        match event {
            watcher::Event::Init => self.fresh.clear(),
            watcher::Event::InitApply(object) => {
                let (name, value) = entry(&object);
                self.fresh.insert(name, value);
            }
            watcher::Event::InitDone => self.objects = std::mem::take(&mut self.fresh),
            watcher::Event::Apply(object) => {
                let (name, value) = entry(&object);
                self.objects.insert(name, value);
            }
            watcher::Event::Delete(object) => {
                self.objects.remove(&entry(&object).0);
            }
        }
    }
}

async fn truth(client: &Client) -> BTreeMap<String, String> {
    let objects = client
        .list(&resources::CONFIG_MAPS, Some("n"), None, None)
        .await
        .expect("listed");
    objects
        .iter()
        .map(|o| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&o["metadata"]["name"]), text(&o["data"]["v"]))
        })
        .collect()
}

/// Creates, changes and deletes a good many objects.
async fn churn(client: &Client, round: usize) {
    for index in 0..60 {
        let name = format!("c{index}");
        let _ = client.create(&resources::CONFIG_MAPS, config_map(&name, round)).await;
        let patch = Patch::Merge(json!({ "data": { "v": (round * 1000 + index).to_string() } }));
        let _ = client.patch(&resources::CONFIG_MAPS, "n", &name, None, patch).await;
        if index % 3 == round % 3 {
            let _ = client
                .delete(&resources::CONFIG_MAPS, "n", &name, DeleteOptions::default())
                .await;
        }
    }
}

/// A kube-rs watcher ends with the truth after it was slow, after the history moved past it, and after the API was started again.
async fn watcher_survives(config: watcher::Config) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let address = served.address.to_string();
    namespace(&served.client()).await;
    churn(&served.client(), 1).await;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(served.kube().await, "n");
    let mut events = watcher(maps, config).boxed();
    let mut belief = Belief::default();
    let mut settle = async |client: &Client, belief: &mut Belief| {
        let truth = truth(client).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while belief.objects != truth {
            match tokio::time::timeout_at(deadline, events.next()).await {
                Ok(Some(Ok(event))) => belief.see(event),
                // The watcher says what it met and goes on by itself when it is asked again.
                Ok(Some(Err(_))) => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(None) | Err(_) => panic!("the watcher does not come to the truth"),
            }
        }
    };
    settle(&served.client(), &mut belief).await;

    // Slow: nothing is read while much happens.
    for round in 2..6 {
        churn(&served.client(), round).await;
    }
    settle(&served.client(), &mut belief).await;

    // Compacted: what it has not read is gone from the history.
    churn(&served.client(), 6).await;
    served.api.compact(0);
    churn(&served.client(), 7).await;
    served.api.compact(3);
    settle(&served.client(), &mut belief).await;

    // Started again, with changes in between that nobody could watch.
    served.stop().await;
    let api = Api::open(dir.path()).expect("the store opens again");
    churn(&Client::new(api.clone(), "test"), 8).await;
    api.close();
    drop(api);
    let served = Served::start(dir.path(), &address).await;
    settle(&served.client(), &mut belief).await;
    churn(&served.client(), 9).await;
    settle(&served.client(), &mut belief).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_watcher_survives() {
    watcher_survives(watcher::Config::default().page_size(7)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streaming_watcher_survives() {
    watcher_survives(watcher::Config::default().streaming_lists()).await;
}

/// Sends a plain request with kube's client, to see the status and the body as they are.
async fn send(client: &kube::Client, request: http::Request<Vec<u8>>) -> (u16, Value) {
    let response = client
        .send(request.map(kube::client::Body::from))
        .await
        .expect("an answer");
    let code = response.status().as_u16();
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .expect("a body")
        .to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_told_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    namespace(&served.client()).await;
    let client = served.kube().await;
    let large = format!("{{\"data\":{{\"v\":\"{}\"}}}}", "x".repeat(10 << 20));
    let maps = "/api/v1/namespaces/n/configmaps";
    for (method, path, body, code, message) in [
        (
            "GET",
            "/api/v1/namespaces/n/widgets",
            "",
            404,
            "the server could not find the requested resource",
        ),
        (
            "GET",
            "/api/v1/namespaces/n/configmaps/none",
            "",
            404,
            "configmaps \"none\" not found",
        ),
        (
            "GET",
            "/api/v1/configmaps?fieldSelector=a=b",
            "",
            400,
            "field label not supported: a",
        ),
        (
            "GET",
            "/api/v1/configmaps?labelSelector=a%20b",
            "",
            400,
            "unable to parse requirement",
        ),
        (
            "GET",
            "/api/v1/configmaps?watch=1&resourceVersion=x",
            "",
            422,
            "resourceVersion: Invalid value",
        ),
        ("POST", maps, "{", 400, "couldn't parse"),
        ("POST", maps, "[]", 400, "not a JSON object"),
        (
            "POST",
            maps,
            r#"{"kind":"Secret","apiVersion":"v1"}"#,
            400,
            "does not match v1, Kind=ConfigMap",
        ),
        (
            "POST",
            maps,
            r#"{"metadata":{}}"#,
            422,
            "name or generateName is required",
        ),
        (
            "POST",
            maps,
            r#"{"metadata":{"name":"a","namespace":"m"}}"#,
            400,
            "does not match the namespace",
        ),
        (
            "POST",
            maps,
            r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#,
            400,
            "resourceVersion should not be set",
        ),
        (
            "POST",
            "/api/v1/namespaces/m/configmaps",
            r#"{"metadata":{"name":"a"}}"#,
            404,
            "namespaces \"m\" not found",
        ),
        (
            "POST",
            "/api/v1/namespaces/n/configmaps?fieldValidation=Strict",
            r#"{"metadata":{"name":"a"},"dat":1}"#,
            400,
            "strict decoding error: unknown field \"dat\"",
        ),
        ("POST", maps, &large, 413, "Request entity too large: limit is 3145728"),
        (
            "PUT",
            "/api/v1/namespaces/n/configmaps",
            "{}",
            405,
            "the server does not allow this method",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/n/configmaps/none",
            "{}",
            415,
            "unknown format",
        ),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body.as_bytes().to_vec())
            .expect("a request");
        let (found, status) = send(&client, request).await;
        let text = status["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (found, &status["kind"], text.contains(message)),
            (code, &json!("Status"), true),
            "{method} {path}: {text}"
        );
    }
    served.stop().await;
}

/// A client without a certificate, with or without a token.
async fn with_token(served: &Served, token: Option<&str>) -> kube::Client {
    let kubeconfig = served.pki.kubeconfig("test", &format!("https://{}", served.address));
    let mut kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("it is a kubeconfig");
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(kube::config::AuthInfo {
            token: token.map(|t| t.to_owned().into()),
            ..Default::default()
        });
    }
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_who_they_prove_to_be() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::start(dir.path(), "127.0.0.1:0").await;
    let client = served.client();
    namespace(&client).await;
    let account = json!({ "metadata": { "name": "a", "namespace": "n" } });
    client
        .create(&resources::SERVICE_ACCOUNTS, account)
        .await
        .expect("created");
    let token = async |spec: Value| {
        let answer = client
            .create_token("n", "a", &json!({ "spec": spec }))
            .await
            .expect("a token");
        answer["status"]["token"].as_str().expect("a token").to_owned()
    };
    let (own, foreign) = (token(json!({})).await, token(json!({ "audiences": ["vault"] })).await);
    let who = || {
        http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("content-type", "application/json")
            .body(b"{}".to_vec())
            .expect("a request")
    };
    for bad in [None, Some("x"), Some(foreign.as_str())] {
        assert_eq!(send(&with_token(&served, bad).await, who()).await.0, 401, "{bad:?}");
    }
    let (code, review) = send(&with_token(&served, Some(&own)).await, who()).await;
    assert_eq!(
        (code, &review["status"]["userInfo"]["username"]),
        (201, &json!("system:serviceaccount:n:a"))
    );
    let (_, review) = send(&served.kube().await, who()).await;
    assert_eq!(review["status"]["userInfo"]["username"], "kubernetes-admin");

    // A token for someone else is good at a review that names them; and none is good without its account.
    let review = json!({ "spec": { "token": foreign, "audiences": ["vault"] } });
    let ask = || {
        http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
            .header("content-type", "application/json")
            .body(review.to_string().into_bytes())
            .expect("a request")
    };
    let (_, answer) = send(&served.kube().await, ask()).await;
    assert_eq!(
        (&answer["status"]["authenticated"], &answer["status"]["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    let none = DeleteOptions::default();
    client
        .delete(&resources::SERVICE_ACCOUNTS, "n", "a", none)
        .await
        .expect("deleted");
    let (_, answer) = send(&served.kube().await, ask()).await;
    assert!(
        answer["status"]["error"]
            .as_str()
            .is_some_and(|e| e.contains("deleted")),
        "{answer}"
    );
    assert_eq!(send(&with_token(&served, Some(&own)).await, who()).await.0, 401);
    served.stop().await;
}
