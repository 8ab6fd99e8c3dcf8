use super::*;

const MAP: &str = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT";

fn read_keys(
    listeners: &str,
    advertised: Option<&str>,
    protocols: &str,
    controllers: &[&str],
) -> Result<(Vec<ListenerConfig>, Vec<ControllerListener>), ListenerError> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let controllers: Vec<String> = controllers.iter().map(|name| (*name).to_owned()).collect();
    read(&ListenerKeys {
        listeners: &list(listeners),
        advertised: &advertised.map(list).unwrap_or_default(),
        protocols,
        controllers: &controllers,
    })
}

fn read_plain(
    listeners: &str,
    advertised: Option<&str>,
) -> Result<(Vec<ListenerConfig>, Vec<ControllerListener>), ListenerError> {
    read_keys(listeners, advertised, MAP, &[])
}

fn one(listeners: &str, advertised: Option<&str>) -> ListenerConfig {
    let (mut open, _) = read_plain(listeners, advertised).unwrap();
    assert_eq!(open.len(), 1);
    open.remove(0)
}

#[test]
fn a_listener_advertises_itself() {
    let listener = one("plaintext://127.0.0.1:9092", None);
    assert_eq!(listener.name, "PLAINTEXT");
    assert_eq!(listener.bind_address(), "127.0.0.1:9092");
    assert_eq!(listener.advertised(9092), ("127.0.0.1", 9092));
    assert!(listener.loopback());
}

#[test]
fn port_zero_advertises_the_port_really_bound() {
    assert_eq!(one("PLAINTEXT://127.0.0.1:0", None).advertised(40_123), ("127.0.0.1", 40_123));
    let advertised = one("PLAINTEXT://0.0.0.0:0", Some("PLAINTEXT://broker.example:0"));
    assert_eq!(advertised.advertised(40_123), ("broker.example", 40_123));
}

#[test]
fn ipv6_addresses_stand_in_brackets() {
    let listener = one("PLAINTEXT://[::1]:9092", None);
    assert_eq!(listener.host, "::1");
    assert_eq!(listener.bind_address(), "[::1]:9092");
    assert!(listener.loopback());
    assert!(read_plain("PLAINTEXT://::1:9092", None).is_err());
}

#[test]
fn an_empty_host_is_every_interface() {
    let listener = one("PLAINTEXT://:9092", Some("PLAINTEXT://broker:9092"));
    assert_eq!(listener.bind_address(), "0.0.0.0:9092");
    assert!(!listener.loopback());
}

#[test]
fn addresses_no_client_can_reach_are_refused_as_advertised() {
    for (listeners, advertised, key, given) in [
        ("PLAINTEXT://0.0.0.0:9092", None, "listeners", "0.0.0.0"),
        ("PLAINTEXT://[::]:9092", None, "listeners", "::"),
        ("PLAINTEXT://:9092", None, "listeners", "(empty host)"),
        (
            "PLAINTEXT://127.0.0.1:9092",
            Some("PLAINTEXT://0.0.0.0:9092"),
            "advertised.listeners",
            "0.0.0.0",
        ),
        (
            "PLAINTEXT://127.0.0.1:9092",
            Some("PLAINTEXT://:9092"),
            "advertised.listeners",
            "(empty host)",
        ),
    ] {
        let error = read_plain(listeners, advertised).unwrap_err();
        assert_eq!(
            error,
            ListenerError::Unreachable {
                key,
                name: "PLAINTEXT".to_owned(),
                given: given.to_owned(),
                port: 9092
            }
        );
        assert!(
            error.hint().starts_with("set advertised.listeners=PLAINTEXT://"),
            "{}",
            error.hint()
        );
    }
}

#[test]
fn controller_listeners_are_left_out() {
    let (open, left_out) = read_keys(
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://:9093",
        Some("PLAINTEXT://127.0.0.1:9092,CONTROLLER://broker:9093"),
        "PLAINTEXT:PLAINTEXT",
        &["controller"],
    )
    .unwrap();
    assert_eq!(open.len(), 1);
    let addresses: Vec<_> = left_out.iter().map(|it| (&*it.name, it.bind_address())).collect();
    assert_eq!(addresses, [("CONTROLLER", "0.0.0.0:9093".to_owned())]);
    assert!(!left_out[0].loopback());
    let other = read_keys(
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://:9093",
        None,
        "PLAINTEXT:PLAINTEXT,CONTROLLER:SSL",
        &["CONTROLLER"],
    );
    assert!(matches!(other, Err(ListenerError::Protocol { .. })));
    let none = read_keys("CONTROLLER://:9093", None, "PLAINTEXT:PLAINTEXT", &["CONTROLLER"]);
    assert!(matches!(none, Err(ListenerError::NoneLeft { .. })));
}

#[test]
fn names_map_to_protocols() {
    let mapped = |listeners| read_keys(listeners, None, "internal:plaintext,EXTERNAL:SSL", &[]);
    assert!(mapped("INTERNAL://127.0.0.1:1").is_ok());
    assert_eq!(
        mapped("EXTERNAL://127.0.0.1:1"),
        Err(ListenerError::Protocol { name: "EXTERNAL".to_owned(), protocol: "SSL".to_owned() })
    );
    assert_eq!(
        mapped("OTHER://127.0.0.1:1"),
        Err(ListenerError::NoProtocol { name: "OTHER".to_owned() })
    );
    let map = read_keys("PLAINTEXT://127.0.0.1:1", None, "PLAINTEXT", &[]);
    assert!(matches!(map, Err(ListenerError::Map { .. })));
}

#[test]
fn wrong_lists_are_refused() {
    for text in [
        "127.0.0.1:9092",
        "PLAINTEXT://host",
        "PLAINTEXT://host:x",
        "PLAINTEXT://host:65536",
        "://host:1",
        "PLAINTEXT://[::1:1",
    ] {
        let error = read_plain(text, None).unwrap_err();
        assert!(matches!(error, ListenerError::Form { key: "listeners", .. }), "{text}: {error}");
    }
    let twice = read_plain("PLAINTEXT://a:1,plaintext://b:2", None);
    assert!(matches!(twice, Err(ListenerError::Name { .. })));
    let stray = read_plain("PLAINTEXT://a:1", Some("OTHER://a:1"));
    assert_eq!(stray, Err(ListenerError::NotListening { name: "OTHER".to_owned() }));
}

#[test]
fn ports_clash_only_on_the_same_address() {
    let ports = |listeners, advertised| {
        read_keys(listeners, advertised, "A:PLAINTEXT,B:PLAINTEXT", &[]).map(|(open, _)| open.len())
    };
    let clash = Err(ListenerError::Port { given: 1 });
    assert_eq!(ports("A://host:1,B://host:1", None), clash);
    assert_eq!(ports("A://127.0.0.1:1,B://127.0.0.2:1", None), Ok(2));
    assert_eq!(ports("A://127.0.0.1:0,B://127.0.0.1:0", None), Ok(2));
    assert_eq!(ports("A://0.0.0.0:1,B://127.0.0.1:1", Some("A://host:1")), clash);
}
