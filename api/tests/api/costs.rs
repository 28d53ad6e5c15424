//! Cost reports: who sees what, how they are cut, and the two forms they come in.

use crate::world::{NODE, World};
use mothball_domain::id::ContainerId;
use mothball_domain::usage::{GpuUse, IdleClock, IdleRule, Use};
use mothball_store::Looked;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::time::Duration;

fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).parse().unwrap()
}

/// ann's two containers, one of them deleted, bob's parked one, and eve's in another project.
async fn people_with_containers() -> World {
    let world = World::new().await;
    world.ready("ann", "kept").await;
    let gone = world.ready("ann", "gone").await;
    let job = world.call("ann", "DELETE", &format!("/v1/containers/{gone}"), Value::Null).await.is(202).job();
    world.succeed(job.id).await;
    let parked = world.ready("bob", "parked").await;
    let job = world.post("bob", &format!("/v1/containers/{parked}/park"), json!({})).await.is(202).job();
    world.succeed(job.id).await;
    world.ready("eve", "hers").await;
    world
}

async fn names(world: &World, user: &str, query: &str) -> Vec<String> {
    let report = world.get(user, &format!("/v1/costs{query}")).await.is(200).json();
    let names = report["items"].as_array().unwrap().iter();
    let mut names: Vec<String> =
        names.map(|row| row["container_name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn members_see_their_own_admins_the_projects_operators_everything() {
    let world = people_with_containers().await;
    assert_eq!(names(&world, "ann", "").await, ["gone", "kept"], "deleted containers stay in it");
    assert_eq!(names(&world, "bob", "").await, ["parked"]);
    assert_eq!(names(&world, "boss", "").await, ["gone", "kept", "parked"]);
    assert_eq!(names(&world, "boss", "?user=bob").await, ["parked"]);
    assert_eq!(names(&world, "eve", "").await, ["hers"]);
    assert_eq!(names(&world, "admin", "").await, ["gone", "hers", "kept", "parked"]);
    assert_eq!(names(&world, "admin", "?project=other").await, ["hers"]);
    world.get("ann", "/v1/costs?user=bob").await.refused(403, "forbidden");
    world.get("eve", "/v1/costs?project=default").await.refused(404, "not_found");
    world.get("", "/v1/costs").await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_report_is_cut_as_asked_and_its_parts_are_the_whole() {
    let world = people_with_containers().await;
    // A time in the past, so that what lasts does not go on while this looks.
    let to = world.store().now().await.unwrap();
    let ask = async |by: &str| world.get("admin", &format!("/v1/costs?by={by}&to={to}")).await.is(200).json();
    let total = ask("container").await["total"].clone();
    assert!(decimal(&total["cost"]) > Decimal::ZERO && total["container"].is_null(), "{total}");
    assert!(decimal(&total["avoided"]) > Decimal::ZERO && total["currency"] == "TWD", "{total}");
    for by in
        ["container", "user", "project", "flavor", "day", "user,day", "project,user,container,flavor,day"]
    {
        let report = ask(by).await;
        assert_eq!(report["total"], total, "by {by}");
        let sum = |field: &str| {
            report["items"].as_array().unwrap().iter().map(|row| decimal(&row[field])).sum::<Decimal>()
        };
        for field in ["seconds", "parked_seconds"] {
            assert_eq!(sum(field), decimal(&total[field]), "{field} by {by}");
        }
        for field in ["cost", "avoided", "storage_cost"] {
            let off = (sum(field) - decimal(&total[field])).abs();
            assert!(off < Decimal::new(1, 20), "{field} by {by} is off by {off}");
        }
        for row in report["items"].as_array().unwrap() {
            for key in ["container", "user", "project", "flavor", "day"] {
                assert_eq!(row[key].is_null(), !by.split(',').any(|b| b == key), "{key} of {row}");
            }
            // One price, 3 an hour: the row is its seconds x 3 / 3600.
            let cost = (decimal(&row["seconds"]) * Decimal::from(3) / Decimal::from(3600)).normalize();
            assert_eq!(decimal(&row["cost"]), cost, "{row}");
        }
    }
}

#[tokio::test]
async fn a_long_report_comes_in_pages() {
    let world = people_with_containers().await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get("admin", &format!("/v1/costs?limit=1{cursor}")).await.is(200).json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|row| row["container_name"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["kept", "gone", "parked", "hers"]);
    world.get("admin", "/v1/costs?cursor=nowhere").await.refused(422, "invalid");
    world.get("admin", "/v1/costs?from=x").await.refused(422, "invalid");
}

#[tokio::test]
async fn charges_come_as_csv_in_focus_columns() {
    let world = people_with_containers().await;
    let by_query = world.get("boss", "/v1/costs?format=csv").await.is(200);
    assert_eq!(by_query.header("content-type"), "text/csv; charset=utf-8");
    let accept = [("accept", "text/csv")];
    let answer = world.call_with("boss", "GET", "/v1/costs", Value::Null, &accept).await.is(200);
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<std::collections::BTreeMap<String, String>> = reader
        .records()
        .map(|row| header.iter().map(str::to_owned).zip(row.unwrap().iter().map(str::to_owned)).collect())
        .collect();
    // Three containers that ran, and the image of the one that is parked; more where midnight lies between.
    assert!(rows.len() >= 4, "{}", answer.text);
    for row in &rows {
        assert_eq!((row["BillingCurrency"].as_str(), row["ChargeCategory"].as_str()), ("TWD", "Usage"));
        assert_eq!(
            (row["SubAccountId"].as_str(), row["ChargeFrequency"].as_str()),
            ("default", "Usage-Based")
        );
        assert_eq!(row["BilledCost"], row["EffectiveCost"]);
        let at = |column: &str| row[column].parse::<jiff::Timestamp>().unwrap();
        assert!(at("BillingPeriodStart") <= at("ChargePeriodStart"), "{row:?}");
        assert!(at("ChargePeriodStart") < at("ChargePeriodEnd"), "{row:?}");
        assert!(at("ChargePeriodEnd") <= at("BillingPeriodEnd"), "{row:?}");
        let tags: Value = serde_json::from_str(&row["Tags"]).unwrap();
        assert_eq!(tags["flavor"], "cpu-small");
        if row["ServiceCategory"] == "Compute" {
            assert_eq!((row["ListUnitPrice"].as_str(), row["SkuId"].as_str()), ("3", "cpu-small"));
            assert_eq!(row["ConsumedUnit"], "Hours");
        } else {
            assert_eq!(row["ServiceCategory"], "Storage");
            assert_eq!((row["ResourceName"].as_str(), row["PricingUnit"].as_str()), ("parked", "GB-Months"));
            assert!(row["x_AvoidedCost"].parse::<Decimal>().unwrap() > Decimal::ZERO);
        }
    }
    // Operators' money is not shown to whoever may not see it.
    let own = world.call_with("ann", "GET", "/v1/costs", Value::Null, &accept).await.is(200);
    assert!(!own.text.contains("parked") && own.text.contains("gone"), "{}", own.text);
}

/// Has the node report that a container has been idle, by the usual rule.
async fn idle_for_an_hour(world: &World, name: &str) {
    let found = world.get("boss", &format!("/v1/containers/{name}")).await.is(200).json();
    let (mut idle, quarter) = (IdleClock::default(), Duration::from_mins(15));
    for _ in 0..4 {
        idle.look(quarter, quarter, None);
    }
    let container = ContainerId(found["id"].as_u64().unwrap());
    let look = Looked { container, used: Use::default(), idle, rule: IdleRule::usual() };
    let node = NODE.parse().unwrap();
    world.store().report_usage(&node, &GpuUse::default(), &[look]).await.unwrap();
}

#[tokio::test]
async fn a_container_says_what_it_costs_now_and_awake_and_metrics_what_projects_do() {
    let world = people_with_containers().await;
    let cost = |name: &str| {
        let path = format!("/v1/containers/{name}");
        let world = &world;
        async move { world.get("boss", &path).await.is(200).json()["cost"].clone() }
    };
    let (kept, parked) = (cost("kept").await, cost("parked").await);
    assert_eq!(
        (&kept["per_hour"], &kept["now_per_hour"], &kept["avoided"]),
        (&json!("3"), &json!("3"), &json!("0"))
    );
    assert_eq!(parked["per_hour"], "3");
    // 1234 bytes at 1.825 a gigabyte-month.
    assert_eq!(decimal(&parked["now_per_hour"]), "0.000000003085".parse().unwrap());
    assert!(decimal(&parked["avoided"]) > Decimal::ZERO);

    let plain = world.get("", "/metrics").await.is(200).text;
    assert!(!plain.contains("mothball_cost"), "money without a key");
    idle_for_an_hour(&world, "kept").await;
    let money = world.get("admin", "/metrics").await.is(200).text;
    let value = |name: &str, project: &str| -> f64 {
        let line = format!("{name}{{project=\"{project}\"}} ");
        money
            .lines()
            .find_map(|l| l.strip_prefix(&line))
            .unwrap_or_else(|| panic!("{money}"))
            .parse()
            .unwrap()
    };
    assert!(
        (value("mothball_cost_per_hour", "default") - 3.0).abs() < 1e-9,
        "one runs, one is parked, one is gone"
    );
    assert!((value("mothball_cost_per_hour", "other") - 3.0).abs() < 1e-9);
    assert!((value("mothball_idle_cost_per_hour", "default") - 3.0).abs() < 1e-9, "paid for nothing");
    assert_eq!(value("mothball_idle_cost_per_hour", "other").to_bits(), 0);
    assert!(value("mothball_cost_total", "default") > value("mothball_cost_total", "other"));
    assert!(value("mothball_cost_avoided_total", "default") > 0.0);
    assert_eq!(value("mothball_cost_avoided_total", "other").to_bits(), 0);
}
