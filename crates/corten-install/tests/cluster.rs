//! An installation against the local runtime's API, which has no controllers here: what is refused, what is left, what is removed.

use std::time::Duration;

use corten_apiserver::{Api, Client, ServerConfig, pki::Pki, resources, serve};
use corten_install::cluster::{Cluster, title};
use corten_install::install::{self, InstallError, Options};
use corten_install::operator::{Request, plan};
use corten_install::remove::{self, Removal};
use corten_install::{precheck, record, render, verify};
use corten_rt::TaskGroup;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

#[tokio::test]
async fn half_an_installation_is_found_again_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::open(dir.path()).unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    api.use_pki(&pki);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskGroup::new("test API");
    let config = ServerConfig {
        listeners: vec![listener],
        pki: pki.clone(),
        api: api.clone(),
    };
    serve(config, &tasks).unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&pki.kubeconfig("test", &format!("https://{address}"))).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let cluster = Cluster::new(kube::Client::try_from(config).unwrap(), "the test", false);

    let request = Request {
        sets: vec![("profile=ambient".to_owned(), false)],
        ..Request::default()
    };
    let plan = plan(&request).unwrap();
    let objects = render::objects(&plan, render::Options::default()).unwrap();
    assert_eq!(precheck::gate(&cluster, &plan, &objects).await.unwrap(), []);
    let options = Options {
        adopt: false,
        timeout: Duration::ZERO,
    };
    // Nobody makes pods here, so it is not ready in time; what is there stays.
    let outcome = install::install(&cluster, &plan, &request, &objects, &options, &mut |_| {}).await;
    let Err(InstallError::Timeout(_, waits)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        waits.iter().any(|it| it.contains("Deployment istio-system/istiod")),
        "{waits:?}"
    );
    let check = verify::objects(&cluster, &objects).await.unwrap();
    assert!(check.found.is_ok(), "{check:?}");
    let known = record::read(&cluster, "istio-system", "").await.unwrap().unwrap();
    assert_eq!(known.request.sets, request.sets);

    // What somebody changes is found by its field.
    let role = objects.iter().find(|it| it.object["kind"] == "ClusterRole").unwrap();
    let mut changed = role.object.clone();
    changed["rules"] = json!([]);
    cluster.apply(&changed).await.unwrap();
    let found = verify::objects(&cluster, &objects).await.unwrap().found.unwrap_err();
    assert!(
        found.contains(&title(&role.object)) && found.contains(".rules"),
        "{found}"
    );

    let removal = Removal {
        objects: known.objects,
        namespace: "istio-system".to_owned(),
        purge: false,
        drain: Duration::ZERO,
    };
    let left = remove::remove(&cluster, &removal, &mut |_| {}).await.unwrap();
    assert_eq!(left, Vec::<String>::new());
    for rendered in &objects {
        let kept = matches!(
            rendered.object["kind"].as_str(),
            Some("Namespace" | "CustomResourceDefinition")
        );
        let live = cluster.live(&rendered.object).await.unwrap();
        assert_eq!(live.is_some(), kept, "{}", title(&rendered.object));
    }

    // Somebody else's control plane is not installed over.
    let foreign = json!({
        "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {
            "selector": {"matchLabels": {"istio": "pilot"}},
            "template": {
                "metadata": {"labels": {"istio": "pilot"}},
                "spec": {"containers": [{"name": "discovery", "image": "registry.istio.io/release/pilot:1.30.0"}]},
            },
        },
    });
    Client::new(api.clone(), "other")
        .create(&resources::DEPLOYMENTS, foreign)
        .await
        .unwrap();
    let refused = install::check_foreign(&cluster, &plan, &objects, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("pilot:1.30.0") && refused.contains("--adopt"),
        "{refused}"
    );
    assert_eq!(
        install::check_foreign(&cluster, &plan, &objects, true)
            .await
            .unwrap()
            .len(),
        1
    );
    tasks.shutdown(Duration::from_secs(5)).await;
}
