"""The definitions of this repository: what a customer is, and what is known about one."""

from featurestore import Entity, FeatureService, FeatureView, Field, FileSource
from featurestore.types import Float64, Int64, String

customer = Entity(name="customer", join_keys={"customer_id": Int64})

customers = FileSource(
    name="customers",
    path="data/customers.parquet",
    timestamp_field="event_timestamp",
)

customer_profile = FeatureView(
    name="customer_profile",
    entities=[customer],
    source=customers,
    schema=[
        Field(name="country", dtype=String, description="Where they live"),
        Field(name="credit_limit", dtype=Float64, description="EUR; null: none granted"),
        Field(name="orders", dtype=Int64, description="Since they became a customer"),
    ],
    owner="you@example.com",
)

credit_v1 = FeatureService(
    name="credit_v1",
    description="Will this customer pay late?",
    features=[customer_profile[["credit_limit", "orders"]]],
)
