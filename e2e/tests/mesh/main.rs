//! One mesh for all of these tests, because starting one costs more than asking it:
//! they run one after the other, each puts back what it changed, and at the end
//! the mesh is stopped and the machine compared with what it was.

use std::sync::Arc;

use lateen_e2e::{
    Mesh,
    machine::{Machine, Processes},
};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

mod access_logs;
mod any_order;
mod bad_http;
mod bad_input;
mod cli;
mod cluster;
mod control_plane;
mod diagnosis;
mod envoy;
mod explain;
mod failing;
mod gateway_api;
mod gateway_tls;
mod grpc;
mod kubectl;
mod machines;
mod metrics;
mod multicluster;
mod names;
mod pods;
mod proxyless;
mod resilience;
mod routing;
mod samples;
mod security;
mod tcp;
mod tokens;
mod traffic;

/// Asynchronous tests on the shared mesh, with its proxies as they are, or with Envoy for all of them.
macro_rules! trials {
    ($mesh:expr, $($module:ident :: $name:ident),+ $(,)?) => {
        vec![$({
            let mesh = Arc::clone($mesh);
            let name = concat!(stringify!($module), "::", stringify!($name));
            Trial::test(name, move || block_on($module::$name(&mesh)))
        }),+]
    };
    ($mesh:expr, with Envoy, $($module:ident :: $name:ident),+ $(,)?) => {
        vec![$({
            let mesh = Arc::clone($mesh);
            let name = concat!("with_envoy::", stringify!($module), "::", stringify!($name));
            Trial::test(name, move || block_on(envoy::everywhere(&mesh, $module::$name)))
        }),+]
    };
}

fn main() -> std::process::ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    if args.list {
        return libtest_mimic::run(&args, all(&Arc::default())).exit_code();
    }
    let before = Machine::look();
    let mut processes = None;
    let started = Mesh::prepare("e2e").and_then(|mut mesh| {
        processes = Some(Processes::before(mesh.binary())?);
        mesh.up()?;
        Ok(mesh)
    });
    let mesh = match started {
        Ok(mesh) => mesh,
        Err(error) => {
            eprintln!("no mesh to test: {error:#}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let holder = Arc::new(Some(mesh));
    let conclusion = libtest_mimic::run(&args, all(&holder));
    let mesh = Arc::into_inner(holder).flatten();
    finish(conclusion, mesh, &before, processes)
}

fn finish(
    conclusion: Conclusion,
    mesh: Option<Mesh>,
    before: &Machine,
    processes: Option<Processes>,
) -> std::process::ExitCode {
    let (Some(mesh), Some(mut processes)) = (mesh, processes) else {
        eprintln!("a test still holds the mesh");
        return std::process::ExitCode::FAILURE;
    };
    if conclusion.has_failed() {
        eprintln!(
            "{}",
            mesh.lateen_ok(&["status", "--name", &mesh.name])
                .unwrap_or_default()
        );
    }
    let stopped = mesh.pid("platform").and_then(|platform| {
        processes.note(platform);
        mesh.stop()
    });
    if let Err(error) = stopped {
        eprintln!("the mesh did not stop: {error:#}");
        return std::process::ExitCode::FAILURE;
    }
    let left = processes.left();
    let after = Machine::look();
    if !left.is_empty() || after != *before {
        eprintln!("the machine is not as it was:\n{left:#?}\nbefore {before:#?}\nafter {after:#?}");
        return std::process::ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// In this order: the first of those with Envoy gives it to every pod, for good.
fn all(mesh: &Arc<Option<Mesh>>) -> Vec<Trial> {
    let mut all = with_ours(mesh);
    all.extend(with_envoy(mesh));
    all
}

/// What the public samples and our own rules ask for, by Envoy's understanding of what it is sent.
fn with_envoy(mesh: &Arc<Option<Mesh>>) -> Vec<Trial> {
    trials![
        mesh,
        with Envoy,
        routing::every_version_of_reviews_appears,
        cli::proxy_config_shows_each_section,
        cli::proxy_config_is_read_by_programs_and_from_files,
        cli::levels_of_a_proxy_are_changed,
        cli::a_proxy_is_compared_with_what_it_was_sent,
        cli::a_report_holds_no_secrets,
        routing::all_v1_pins_v1,
        routing::weights_split_traffic,
        routing::jason_sees_v2,
        routing::a_delay_acts_on_jason_alone,
        routing::an_abort_acts_on_jason_alone,
        gateway_api::a_gateway_is_deployed_and_routes,
        gateway_api::an_ingress_leads_to_its_backends,
        gateway_api::datagrams_go_to_their_shares,
        gateway_tls::a_certificate_comes_from_a_secret_and_is_rotated_live,
        gateway_tls::mutual_tls_asks_clients_for_certificates,
        gateway_tls::plain_requests_are_sent_to_https,
        gateway_tls::tls_is_passed_on_by_server_name,
        grpc::calls_pass_both_sidecars,
        grpc::calls_that_break_or_are_given_up_end_on_both_sides,
        grpc::more_calls_than_one_connection_takes,
        grpc::calls_pass_the_gateway,
        grpc::an_http2_port_is_spoken_to_in_http2,
        tcp::bytes_pass_in_both_directions,
        traffic::copies_go_to_the_mirror,
        access_logs::they_are_as_asked_for,
        diagnosis::policies_are_read_from_the_proxy,
        samples::helloworld_comes_in_two_versions,
        samples::httpbin_sees_who_asks,
        samples::tcp_echo_shifts_connections,
        samples::websockets_pass_the_gateway,
        samples::probes_pass_the_sidecar,
        pods::a_hook_reaches_the_application,
        multicluster::the_control_plane_is_shown_unopened,
        multicluster::the_control_plane_is_shown_under_a_certificate,
        multicluster::services_are_reached_from_other_networks,
        failing::a_failing_pod_is_left_out,
        failing::a_pod_that_hangs_costs_a_try,
        security::only_tls_is_on_the_wire,
        security::strict_refuses_plaintext_and_permissive_serves_it,
        resilience::a_restarted_control_plane_costs_no_request,
        resilience::a_rolling_restart_costs_no_request,
        resilience::fifty_route_changes_cost_no_request,
        any_order::any_order_of_rules_costs_no_request,
    ]
}

fn with_ours(mesh: &Arc<Option<Mesh>>) -> Vec<Trial> {
    trials![
        mesh,
        routing::every_version_of_reviews_appears,
        routing::all_v1_pins_v1,
        routing::weights_split_traffic,
        routing::jason_sees_v2,
        routing::a_delay_acts_on_jason_alone,
        routing::an_abort_acts_on_jason_alone,
        routing::a_change_is_live_on_every_proxy,
        routing::every_networking_sample_is_accepted_or_rightly_refused,
        cluster::pods_and_services_print_as_kubernetes_prints_them,
        cluster::istio_kinds_print_the_columns_of_istio,
        cluster::namespaces_are_labelled_and_described,
        cluster::logs_are_kept,
        cluster::an_unmapped_image_says_how_to_map_it,
        cluster::requests_without_credentials_are_refused,
        cluster::a_tenant_may_not_write_the_control_plane,
        kubectl::objects_are_applied_changed_and_deleted,
        kubectl::rollouts_are_followed_and_undone,
        kubectl::logs_are_read_in_every_way,
        kubectl::the_cluster_is_explored,
        kubectl::programs_run_in_containers,
        kubectl::what_is_wrong_is_said,
        control_plane::proxy_status_shows_every_proxy_in_sync,
        control_plane::replicas_count_their_proxies_together,
        cli::proxy_config_shows_each_section,
        cli::proxy_config_is_read_by_programs_and_from_files,
        cli::levels_of_a_proxy_are_changed,
        cli::a_proxy_is_compared_with_what_it_was_sent,
        cli::levels_of_the_control_plane_are_changed,
        cli::figures_of_a_proxy_are_shown,
        cli::versions_of_all_are_told,
        cli::pages_are_opened_by_forwarded_ports,
        cli::a_report_holds_no_secrets,
        metrics::each_metric_is_listed_and_each_listed_one_is_there,
        explain::requests_are_explained_as_the_proxy_serves_them,
        diagnosis::pods_and_services_are_described,
        diagnosis::the_mesh_is_looked_at,
        diagnosis::objects_are_kept_as_in_1_0,
        diagnosis::outside_workloads_are_registered,
        diagnosis::deployments_leave_and_join,
        diagnosis::remote_secrets_give_the_right_to_read,
        bad_input::malformed_documents_name_their_place,
        bad_input::weights_of_zero_are_refused,
        bad_input::bad_and_huge_regexes_are_refused,
        bad_input::an_unknown_gateway_is_warned_of,
        bad_input::a_gateway_on_a_port_in_use_is_refused,
        bad_input::shapes_that_do_not_fit_are_refused,
        bad_input::an_object_of_4_mib_is_refused,
        bad_input::a_tenant_may_not_delete_the_control_plane,
        tokens::the_control_plane_refuses_bad_tokens,
        bad_http::oversized_heads_are_refused,
        bad_http::bad_framing_is_refused,
        bad_http::old_versions_and_climbing_paths,
        gateway_api::a_gateway_is_deployed_and_routes,
        gateway_api::an_ingress_leads_to_its_backends,
        gateway_api::datagrams_go_to_their_shares,
        gateway_tls::a_certificate_comes_from_a_secret_and_is_rotated_live,
        gateway_tls::mutual_tls_asks_clients_for_certificates,
        gateway_tls::plain_requests_are_sent_to_https,
        gateway_tls::tls_is_passed_on_by_server_name,
        grpc::calls_pass_both_sidecars,
        grpc::calls_that_break_or_are_given_up_end_on_both_sides,
        grpc::more_calls_than_one_connection_takes,
        grpc::calls_pass_the_gateway,
        grpc::an_http2_port_is_spoken_to_in_http2,
        pods::an_application_waits_for_its_proxy,
        pods::a_native_sidecar_lets_its_pod_end,
        tcp::bytes_pass_in_both_directions,
        traffic::copies_go_to_the_mirror,
        access_logs::they_are_as_asked_for,
        samples::helloworld_comes_in_two_versions,
        samples::httpbin_sees_who_asks,
        samples::tcp_echo_shifts_connections,
        samples::websockets_pass_the_gateway,
        samples::probes_pass_the_sidecar,
        pods::a_hook_reaches_the_application,
        multicluster::the_control_plane_is_shown_unopened,
        multicluster::the_control_plane_is_shown_under_a_certificate,
        multicluster::services_are_reached_from_other_networks,
        proxyless::grpc_echo_has_its_agents,
        traffic::names_are_resolved_by_the_sidecar,
        names::captured_names_are_answered,
        machines::a_machine_registers_itself_and_serves_while_it_is_well,
        failing::a_failing_pod_is_left_out,
        failing::a_pod_that_hangs_costs_a_try,
        envoy::real_envoy_serves_in_place_of_ours,
        security::only_tls_is_on_the_wire,
        security::strict_refuses_plaintext_and_permissive_serves_it,
        resilience::a_restarted_control_plane_costs_no_request,
        resilience::a_rolling_restart_costs_no_request,
        resilience::fifty_route_changes_cost_no_request,
        any_order::any_order_of_rules_costs_no_request,
        resilience::a_killed_sidecar_comes_back,
    ]
}

/// Runs one test to its end on a runtime of its own.
fn block_on(test: impl Future<Output = anyhow::Result<()>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime
        .block_on(test)
        .map_err(|error| Failed::from(format!("{error:#}")))
}

/// The mesh that every test shares.
fn shared(mesh: &Option<Mesh>) -> &Mesh {
    mesh.as_ref()
        .expect("the mesh is started before the tests run")
}
