//! Cost reports in the columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification: a row for each charge of each
//! day, running containers as compute, images of parked ones as storage. Columns of our own begin with `x_`.

use super::{Asked, Names, month_of};
use crate::v1::views::{Code, Problem};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mothball_domain::billing::{Key, Usage};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

const COLUMNS: [&str; 41] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_AvoidedCost",
    "x_ParkedSeconds",
];

/// Who provides, publishes and invoices: the platform that runs Mothball.
const PROVIDER: &str = "Mothball";

/// One of the two charges of a row.
struct Charge {
    category: &'static str,
    subcategory: &'static str,
    service: &'static str,
    resource: &'static str,
    description: &'static str,
    unit: &'static str,
    quantity: Decimal,
    cost: Decimal,
    avoided: Decimal,
    parked_seconds: Decimal,
}

/// The report as CSV.
pub(super) fn csv(
    rows: &BTreeMap<Key, Usage>,
    names: &Names<'_>,
    asked: &Asked,
    currency: &str,
) -> Result<String, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: &[String]| {
        writer.write_record(fields).map_err(|_| Problem::new(Code::Internal, "the report cannot be written"))
    };
    write(&COLUMNS.map(str::to_owned))?;
    for (key, usage) in rows {
        for charge in charges(usage) {
            write(&record(key, &charge, names, asked, currency))?;
        }
    }
    let bytes = writer.into_inner().unwrap_or_default();
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

fn charges(usage: &Usage) -> Vec<Charge> {
    let mut charges = Vec::new();
    if usage.billed_ms > 0 {
        charges.push(Charge {
            category: "Compute",
            subcategory: "Containers",
            service: "Development containers",
            resource: "Container",
            description: "Container, from ready until it was gone",
            unit: "Hours",
            quantity: (usage.seconds() / Decimal::from(3600)).normalize(),
            cost: usage.cost(),
            avoided: Decimal::ZERO,
            parked_seconds: Decimal::ZERO,
        });
    }
    if usage.parked_ms > 0 {
        charges.push(Charge {
            category: "Storage",
            subcategory: "Backup Storage",
            service: "Images of parked containers",
            resource: "Image",
            description: "Image of a parked container",
            unit: "GB-Months",
            quantity: usage.gigabyte_months(),
            cost: usage.storage_cost(),
            avoided: usage.avoided(),
            parked_seconds: usage.parked_seconds(),
        });
    }
    charges
}

fn record(key: &Key, charge: &Charge, names: &Names<'_>, asked: &Asked, currency: &str) -> Vec<String> {
    let (from, to) = period(key, asked);
    let month = month_of(from, &asked.zone).unwrap_or((from, to));
    let cost = charge.cost.to_string();
    let flavor = key.flavor.as_ref().map(ToString::to_string).unwrap_or_default();
    let project = key.project.as_ref().map(ToString::to_string).unwrap_or_default();
    let sku = if charge.category == "Storage" { "image-storage".to_owned() } else { flavor.clone() };
    // Of a mixture of flavors there is no price of a unit.
    let unit_price = match charge.cost.checked_div(charge.quantity) {
        Some(price) if !flavor.is_empty() => price.round_dp(12).normalize().to_string(),
        _ => String::new(),
    };
    let container = key.container.map(|id| id.to_string()).unwrap_or_default();
    let name = key.container.and_then(|id| names.get(&id)).map(ToString::to_string).unwrap_or_default();
    let field = |column: &str| match column {
        "BilledCost" | "ContractedCost" | "EffectiveCost" | "ListCost" => cost.clone(),
        "BillingAccountId" | "BillingAccountName" | "ProviderName" | "PublisherName"
        | "InvoiceIssuerName" => PROVIDER.to_owned(),
        "BillingCurrency" | "PricingCurrency" => currency.to_owned(),
        "BillingPeriodStart" => time(month.0),
        "BillingPeriodEnd" => time(month.1),
        "ChargePeriodStart" => time(from),
        "ChargePeriodEnd" => time(to),
        "ChargeCategory" => "Usage".to_owned(),
        "ChargeDescription" => charge.description.to_owned(),
        "ChargeFrequency" => "Usage-Based".to_owned(),
        "ConsumedQuantity" | "PricingQuantity" => charge.quantity.to_string(),
        "ConsumedUnit" | "PricingUnit" => charge.unit.to_owned(),
        "ContractedUnitPrice" | "ListUnitPrice" => unit_price.clone(),
        "PricingCategory" => "Standard".to_owned(),
        "ResourceId" => container.clone(),
        "ResourceName" => name.clone(),
        "ResourceType" => charge.resource.to_owned(),
        "ServiceCategory" => charge.category.to_owned(),
        "ServiceSubcategory" => charge.subcategory.to_owned(),
        "ServiceName" => charge.service.to_owned(),
        "SkuId" | "SkuPriceId" => sku.clone(),
        "SubAccountId" | "SubAccountName" => project.clone(),
        "Tags" => tags(key, &flavor),
        "x_AvoidedCost" => charge.avoided.to_string(),
        "x_ParkedSeconds" => charge.parked_seconds.to_string(),
        // What does not apply is null.
        _ => String::new(),
    };
    COLUMNS.iter().map(|column| field(column)).collect()
}

/// The day of a row, as far as it lies in the report.
fn period(key: &Key, asked: &Asked) -> (Timestamp, Timestamp) {
    let begins = |date: jiff::civil::Date| {
        date.to_zoned(asked.zone.clone()).map_or(asked.span.from, |zoned| zoned.timestamp())
    };
    let Some(day) = key.day else { return (asked.span.from, asked.span.to) };
    let next = day.tomorrow().map_or(asked.span.to, begins);
    (begins(day).max(asked.span.from), next.min(asked.span.to))
}

fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn tags(key: &Key, flavor: &str) -> String {
    let mut tags = serde_json::Map::new();
    if let Some(user) = &key.user {
        tags.insert("user".to_owned(), user.to_string().into());
    }
    if !flavor.is_empty() {
        tags.insert("flavor".to_owned(), flavor.into());
    }
    serde_json::Value::Object(tags).to_string()
}
