"""A feature store's server for the tests of those who call one; needs nothing but this package.

from featurestore_sdk.testing import FakeFeatureStore

with FakeFeatureStore() as fake:
    fake.add_view("users", {"user_id": "int64"}, {"credit": "float64"})
    fake.put("users", {"user_id": 42}, {"credit": 9.5})
    fake.client().get_online_features(["users:credit"], {"user_id": [42]}).to_dict()
"""

from featurestore_sdk.testing.fake import FakeCall, FakeFeatureStore

__all__ = ["FakeCall", "FakeFeatureStore"]
