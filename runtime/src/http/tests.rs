use std::{net::SocketAddr, path::PathBuf};

use dm_core::{
    error::{Error, code},
    relay::Strategy,
    status::{SourceStatus, Stage, SubtaskStatus},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    metrics::TaskStage,
    rpc::{REMOVED, SourceFacts, connect, pb},
};

struct Fixed;

impl Facts for Fixed {
    fn worker(&self) -> &str {
        "worker1"
    }

    fn offline(&self) -> Option<String> {
        None
    }

    async fn sources(&self) -> Vec<SourceFacts> {
        let status = SourceStatus {
            source: "one".into(),
            ..<_>::default()
        };
        let subtasks = vec![SubtaskStatus {
            name: "t".into(),
            ..<_>::default()
        }];
        vec![SourceFacts {
            copies: <_>::default(),
            name: "one".into(),
            handled: true,
            status,
            subtasks,
        }]
    }

    fn stages(&self) -> Vec<TaskStage> {
        vec![TaskStage {
            source: "one".into(),
            task: "t".into(),
            stage: Stage::Running,
        }]
    }

    fn config(&self) -> String {
        "name = \"worker1\"\n".into()
    }

    async fn purge(&self, strategy: Strategy) -> Result<String, Error> {
        match strategy {
            Strategy::File { sub_dir: None, .. } => Ok("ein Stück".into()),
            other => Err(Error::new(
                &code::RELAY_OTHER_STRATEGY_IS_PURGING,
                other.to_string(),
            )),
        }
    }
}

async fn start(tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let forever = std::future::pending();
    tokio::spawn(serve(
        listener,
        tls,
        Arc::new(Fixed),
        Arc::default(),
        forever,
    ));
    address
}

async fn get_path(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn one_port_speaks_grpc_and_http() {
    let address = start(None).await;
    let status = get_path(address, "/status").await;
    assert!(status.starts_with("HTTP/1.1 200 OK\r\n"), "{status}");
    assert!(status.ends_with(&version_text()), "{status}");
    let metrics = get_path(address, "/metrics").await;
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\ndm_worker_cpu_usage 0\n"), "{metrics}");
    let state = "\ndm_worker_task_state{source_id=\"one\",task=\"t\",worker=\"worker1\"} 2\n";
    assert!(metrics.contains(state), "{metrics}");
    assert!(
        get_path(address, "/nothing")
            .await
            .starts_with("HTTP/1.1 404 ")
    );

    let channel = connect(&address.to_string(), None, Duration::from_secs(5))
        .await
        .unwrap();
    let mut client = pb::worker_client::WorkerClient::new(channel);
    let request = pb::QueryStatusRequest { name: "t".into() };
    let answer = client.query_status(request).await.unwrap().into_inner();
    assert!(answer.result);
    assert_eq!(answer.source_status.unwrap().worker, "worker1");
    let config = client
        .get_worker_cfg(pb::GetWorkerCfgRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(config.cfg, "name = \"worker1\"\n");
    for (asked, answered) in [
        (
            pb::PurgeRelayRequest {
                filename: "binlog.000005".into(),
                ..<_>::default()
            },
            true,
        ),
        (
            pb::PurgeRelayRequest {
                time: 7,
                filename: "binlog.000005".into(),
                ..<_>::default()
            },
            false,
        ),
    ] {
        let answer = client.purge_relay(asked).await.unwrap();
        let removed = answer.metadata().get_bin(REMOVED);
        let removed = removed.map(|text| text.to_bytes().unwrap());
        assert_eq!(
            removed.as_deref(),
            answered.then_some("ein Stück".as_bytes())
        );
        let answer = answer.into_inner();
        if answered {
            // As it was recorded.
            assert_eq!(answer.encode_to_vec(), [0x08, 0x01]);
        } else {
            assert!(!answer.result && answer.source.is_empty() && answer.worker.is_empty());
            assert!(answer.msg.starts_with("[code=30036:"), "{}", answer.msg);
            assert!(answer.msg.contains("time strategy"), "{}", answer.msg);
        }
    }
    let refused = client
        .operate_schema(pb::OperateWorkerSchemaRequest::default())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    assert!(
        refused.message().starts_with("OperateSchema "),
        "{}",
        refused.message()
    );
}

#[test]
fn the_version_text_has_the_recorded_lines() {
    let recorded = include_str!("../../../core/testdata/golden/http/status.txt");
    let names = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split_once(": ").unwrap().0.to_owned())
            .collect()
    };
    assert_eq!(names(&version_text()), names(recorded));
    assert!(recorded.ends_with('\n') && version_text().ends_with('\n'));
}

/// An authority, and certificates of it with the common names `server`, `friend` and `stranger`;
/// good for a hundred years.
fn file(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "testdata", "tls", name]
        .iter()
        .collect();
    path.into_os_string().into_string().unwrap()
}

async fn ask(address: SocketAddr, client: Option<&str>) -> Result<(), String> {
    let own =
        |extension| client.map_or_else(String::new, |name| file(&format!("{name}.{extension}")));
    let config = client_config(&file("ca.pem"), &own("pem"), &own("key")).unwrap();
    // By a name that the certificate does not have.
    let address = format!("https://127.0.0.1:{}", address.port());
    let channel = connect(&address, Some(&config), Duration::from_secs(5)).await?;
    let mut client = pb::worker_client::WorkerClient::new(channel);
    let answer = client.query_status(pb::QueryStatusRequest::default()).await;
    answer.map(drop).map_err(|status| status.to_string())
}

#[tokio::test]
async fn tls_lets_in_whom_it_should() {
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let open = start(Some(server_config(&ca, &cert, &key, &[]).unwrap())).await;
    ask(open, None).await.unwrap();
    // A client that never begins delays nobody.
    let _idle = TcpStream::connect(open).await.unwrap();
    ask(open, Some("stranger")).await.unwrap();
    let allowed = ["friend".to_owned()];
    let closed = start(Some(server_config(&ca, &cert, &key, &allowed).unwrap())).await;
    ask(closed, Some("friend")).await.unwrap();
    ask(closed, Some("stranger")).await.unwrap_err();
    ask(closed, None).await.unwrap_err();
    assert!(!get_path(open, "/status").await.contains("HTTP"));
    let page = async |address: SocketAddr, tls: Option<&str>| {
        let own = |extension| tls.map(|name| file(&format!("{name}.{extension}")));
        let config = own("pem").zip(own("key"));
        let config = config.map(|(cert, key)| client_config(&ca, &cert, &key).unwrap());
        fetch(&address.to_string(), "/sources", config).await
    };
    let json = page(closed, Some("friend")).await.unwrap();
    assert!(json.starts_with(b"{\"worker\":\"worker1\""));
    page(closed, Some("stranger")).await.unwrap_err();
    page(closed, None).await.unwrap_err();

    let error = server_config(&ca, &file("missing"), &key, &[]).unwrap_err();
    assert_eq!(error.code, 40076);
    assert_eq!(
        client_config(&file("missing"), "", "").unwrap_err().code,
        40076
    );
}
