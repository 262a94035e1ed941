//! What is refused of listeners.

use lateen_xds::types::listener as pb;
use lateen_xds::{TypeUrl, json};
use serde_json::{Value, json as value};

use super::listener;

fn of(chains: Value) -> Result<bool, String> {
    let resource = value!({ "@type": TypeUrl::LISTENER.as_str(), "name": "l",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 80 } },
        "filter_chains": chains });
    let any = json::any_from_value(resource).expect("a listener");
    let spec: pb::Listener = lateen_xds::decode_any(&any).expect("a listener");
    let found = listener(&spec).map_err(|error| error.field)?;
    Ok(found.proxy_header.is_some())
}

#[test]
fn a_header_is_for_all_chains_or_for_none() {
    let chain = |port: u16, asks: Value| value!({ "filter_chain_match": { "destination_port": port }, "use_proxy_proto": asks });
    let check = |first: Value, second: Value, expect: Result<bool, &str>| {
        let found = of(value!([chain(1, first), chain(2, second)]));
        assert_eq!(found, expect.map_err(str::to_owned));
    };
    check(true.into(), true.into(), Ok(true));
    check(false.into(), Value::Null, Ok(false));
    check(
        true.into(),
        false.into(),
        Err("filter_chains.use_proxy_proto"),
    );
    check(
        Value::Null,
        true.into(),
        Err("filter_chains.use_proxy_proto"),
    );
}

#[test]
fn names_are_looked_up_for_a_tcp_proxy() {
    let names = value!({ "name": "n", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
        "dns_cache_config": { "name": "n" }, "port_value": 443 } });
    let tcp = value!({ "name": "t", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t", "cluster": "c" } });
    assert_eq!(
        of(value!([{ "name": "c", "filters": [names, tcp] }])),
        Ok(false)
    );
    let alone = of(value!([{ "name": "c", "filters": [names] }]));
    assert_eq!(alone, Err("filter_chains[c].filters".to_owned()));
}
