"""The plan: what would change, how much it matters, and to whom. All pure."""

import json
from collections.abc import Sequence
from datetime import timedelta

import pytest

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    Field,
    FileSource,
)
from featurestore.errors import DefinitionError, NotFoundError
from featurestore.registry import (
    Change,
    FieldChange,
    ObjectRef,
    Plan,
    RegistryState,
    make_plan,
    plan_deletion,
    render_plan,
)
from featurestore.registry.collect import MAX_OBJECTS
from featurestore.registry.fields import field_changes
from featurestore.registry.render import MAX_VALUE
from featurestore.registry.state import ObjectRecord, build_state
from featurestore.types import Float64, Int32, Int64, String

EMPTY = RegistryState(project="shop")
USER = Entity(name="user", join_keys={"user_id": Int64})
SALES = FileSource(name="sales", path="sales.parquet", timestamp_field="at")


def view(
    name: str = "spend",
    *,
    fields: Sequence[Field] = (Field(name="amount", dtype=Float64), Field(name="n", dtype=Int32)),
    entity: Entity = USER,
    source: FileSource = SALES,
    ttl: timedelta | None = None,
    online: bool = True,
    description: str = "",
) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[entity],
        source=source,
        schema=fields,
        ttl=ttl,
        online=online,
        description=description,
    )


def service(
    *features: FeatureView | FeatureViewSelection, name: str = "fraud", description: str = ""
) -> FeatureService:
    return FeatureService(name=name, features=features, description=description)


def after(plan: Plan, before: RegistryState = EMPTY) -> RegistryState:
    """Apply a plan without a registry."""
    records = {
        ObjectRef(d.kind, d.name): _record(d.kind, d.name, d.to_document(), before)
        for d in before.definitions
    }
    for name, generation in before.retired.items():
        records[ObjectRef("feature view", name)] = ObjectRecord(
            kind="feature view",
            name=name,
            version=1,
            generation=generation,
            deleted=True,
            document={},
        )
    for change in plan.changes:
        deleted = change.action == "delete"
        records[change.ref] = ObjectRecord(
            kind=change.kind,
            name=change.name,
            version=1,
            generation=change.generation_before if deleted else change.generation_after,
            deleted=deleted,
            document=change.after or change.before or {},
        )
    return build_state(before.project, before.revision + 1, records.values())


def _record(
    kind: str, name: str, document: dict[str, object], state: RegistryState
) -> ObjectRecord:
    generation = state.views[name].generation if kind == "feature view" else None
    return ObjectRecord(
        kind=kind, name=name, version=1, generation=generation, deleted=False, document=document
    )


def applied(*definitions: Definition, before: RegistryState = EMPTY) -> RegistryState:
    return after(make_plan(definitions, before, full=True), before)


def changes(plan: Plan) -> list[str]:
    return [f"{change.action} {change.ref}" for change in plan.changes]


def only(plan: Plan) -> Change:
    assert len(plan.changes) == 1, changes(plan)
    return plan.changes[0]


def test_what_objects_refer_to_is_created_with_them_and_before_them() -> None:
    plan = make_plan([service(view())], EMPTY, full=True)
    assert changes(plan) == [
        "create entity user",
        "create source sales",
        "create feature view spend",
        "create feature service fraud",
    ]
    assert {change.impact for change in plan.changes} == {"additive"}
    assert plan.changes[2].generation_after == 1


def test_listing_what_is_referred_to_as_well_changes_nothing() -> None:
    listed = make_plan([service(view()), view(), USER, SALES], EMPTY, full=True)
    assert listed == make_plan([service(view())], EMPTY, full=True)


@pytest.mark.parametrize("full", [True, False])
def test_the_plan_of_a_state_against_itself_is_empty(*, full: bool) -> None:
    state = applied(service(view()))
    plan = make_plan(state.definitions, state, full=full)
    assert plan.is_empty
    assert plan.summary == "Plan: nothing to do"
    assert render_plan(plan) == [plan.summary]


def test_two_different_definitions_of_one_name_are_refused_with_where_they_are() -> None:
    other = Entity(name="user", join_keys={"user_id": String})
    with pytest.raises(DefinitionError) as caught:
        make_plan([view("a"), view("b", entity=other)], EMPTY, full=True)
    assert caught.value.message == (
        "There are two different definitions of entity 'user': one is used by feature view 'a', the"
        " other used by feature view 'b'; they differ in join_keys."
    )


def test_a_service_that_holds_an_older_definition_of_a_listed_view_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"listed by itself.*'fraud'; they differ in ttl"):
        make_plan([view(), service(view(ttl=timedelta(days=1)))], EMPTY, full=True)


def test_names_that_differ_only_by_case_are_refused() -> None:
    with pytest.raises(DefinitionError, match="'spend' and feature view 'Spend' differ only by"):
        make_plan([view(), view("Spend")], EMPTY, full=True)


def test_a_name_that_differs_only_by_case_from_a_registered_one_is_refused() -> None:
    with pytest.raises(DefinitionError, match="differ only by case"):
        make_plan([view("Spend")], applied(view()), full=False)


def test_a_repository_may_change_the_case_of_a_name() -> None:
    plan = make_plan([view("Spend")], applied(view()), full=True)
    assert changes(plan) == ["create feature view Spend", "delete feature view spend"]


def test_kinds_have_names_of_their_own() -> None:
    plan = make_plan([service(view("same"), name="same")], EMPTY, full=True)
    assert plan.count("create") == 4


def test_something_that_is_no_definition_is_refused() -> None:
    with pytest.raises(DefinitionError, match="A FeatureViewSelection cannot be applied"):
        make_plan([view()[["amount"]]], EMPTY, full=True)  # type: ignore[list-item]


def test_more_objects_than_the_limit_are_refused() -> None:
    many = [Entity(name=f"e{i}", join_keys={"k": Int64}) for i in range(MAX_OBJECTS + 1)]
    with pytest.raises(DefinitionError, match="20,001 objects are too many"):
        make_plan(many, EMPTY, full=True)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("description", "all sales"), ("owner", "a@example.com"), ("tags", {"pii": "no"})],
)
def test_what_is_for_people_never_makes_a_new_generation(attribute: str, value: object) -> None:
    def told(definition: Definition) -> Definition:
        return definition.model_copy(update={attribute: value})

    state = applied(service(view()))
    source, entity = told(SALES), told(USER)
    assert isinstance(source, FileSource)
    assert isinstance(entity, Entity)
    fresh = told(view(source=source, entity=entity))
    assert isinstance(fresh, FeatureView)
    plan = make_plan([told(service(fresh))], state, full=True)
    assert len(plan.changes) == 4
    assert {change.impact for change in plan.changes} == {"metadata"}
    assert plan.new_generations == ()
    assert after(plan, state).view("spend").generation == 1


def test_lateness_is_no_part_of_a_views_meaning() -> None:
    late = SALES.model_copy(update={"lateness": timedelta(hours=3)})
    change = only(make_plan([view(source=late)], applied(view()), full=True))
    assert (change.kind, change.impact) == ("source", "metadata")
    assert change.fields == (FieldChange(path="lateness", before="0d", after="3h"),)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("path", "other/*.parquet"),
        ("timestamp_field", "seen_at"),
        ("created_timestamp_column", "written_at"),
        ("timezone", "Europe/Berlin"),
        ("ambiguous", "latest"),
        ("missing", "forward"),
        ("field_mapping", {"AMT": "amount"}),
    ],
)
def test_a_source_that_means_something_else_gives_its_views_a_new_generation(
    attribute: str, value: object
) -> None:
    state = applied(service(view()))
    other = SALES.model_copy(update={attribute: value})
    plan = make_plan([service(view(source=other))], state, full=True)
    source, indirect = plan.changes
    assert (source.ref, source.impact) == (ObjectRef("source", "sales"), "breaking")
    assert source.affects == (
        ObjectRef("feature view", "spend"),
        ObjectRef("feature service", "fraud"),
    )
    assert (indirect.ref, indirect.impact) == (ObjectRef("feature view", "spend"), "breaking")
    assert indirect.through == (ObjectRef("source", "sales"),)
    assert (indirect.generation_before, indirect.generation_after) == (1, 2)
    assert indirect.fields == ()
    assert indirect.before == indirect.after
    assert plan.new_generations == ("spend",)


def test_an_entity_with_other_keys_gives_its_views_a_new_generation() -> None:
    state = applied(view(), view("other"))
    key = Entity(name="user", join_keys={"user_id": String})
    plan = make_plan([key], state, full=False)
    assert changes(plan) == [
        "update entity user",
        "update feature view other",
        "update feature view spend",
    ]
    assert plan.new_generations == ("other", "spend")
    assert {change.through for change in plan.changes[1:]} == {(ObjectRef("entity", "user"),)}
    assert plan.summary == "Plan: 0 to add, 3 to change (2 new generations), 0 to delete"


def test_an_entity_under_another_name_with_the_same_keys_keeps_the_generation() -> None:
    state = applied(view())
    customer = Entity(name="customer", join_keys={"user_id": Int64})
    plan = make_plan([view(entity=customer)], state, full=True)
    assert changes(plan) == [
        "create entity customer",
        "update feature view spend",
        "delete entity user",
    ]
    assert plan.changes[1].impact == "metadata"
    assert plan.new_generations == ()


AMOUNT, COUNT = Field(name="amount", dtype=Float64), Field(name="n", dtype=Int32)


@pytest.mark.parametrize(
    ("fields", "impact"),
    [
        ([AMOUNT, COUNT, Field(name="country", dtype=String)], "additive"),
        ([AMOUNT, Field(name="country", dtype=String), COUNT], "additive"),
        ([AMOUNT], "breaking"),
        ([COUNT, AMOUNT], "breaking"),
        ([AMOUNT, Field(name="n", dtype=Int64)], "breaking"),
    ],
)
def test_another_schema_is_a_new_generation_and_breaks_unless_it_only_adds(
    fields: list[Field], impact: str
) -> None:
    change = only(make_plan([view(fields=fields)], applied(view()), full=True))
    assert change.impact == impact
    assert change.is_new_generation


def test_another_ttl_is_a_new_generation() -> None:
    state = applied(view())
    change = only(make_plan([view(ttl=timedelta(days=7))], state, full=True))
    assert (change.impact, change.generation_after) == ("breaking", 2)
    assert change.fields == (FieldChange(path="ttl", before=None, after="7d"),)


def test_a_new_feature_together_with_another_ttl_breaks() -> None:
    both = view(fields=[AMOUNT, COUNT, Field(name="c", dtype=String)], ttl=timedelta(days=7))
    assert only(make_plan([both], applied(view()), full=True)).impact == "breaking"


@pytest.mark.parametrize(("online", "impact"), [(True, "additive"), (False, "breaking")])
def test_serving_may_be_switched_without_a_new_generation(*, online: bool, impact: str) -> None:
    state = applied(view(online=not online))
    change = only(make_plan([view(online=online)], state, full=True))
    assert (change.impact, change.is_new_generation) == (impact, False)


OTHER = view("other", fields=[Field(name="m", dtype=Int32)])


@pytest.mark.parametrize(
    ("then", "impact"),
    [
        (service(view(), OTHER), "additive"),
        (service(OTHER, view()), "additive"),
        (service(view()[["amount", "n"]]), "metadata"),
        (service(view(), description="for fraud"), "metadata"),
        (service(view()[["amount"]]), "breaking"),
        (service(view()[["n", "amount"]]), "breaking"),
        (service(view().with_name("role")), "breaking"),
        (service(view().with_join_key_map({"user_id": "buyer"})), "breaking"),
    ],
)
def test_a_service_breaks_unless_all_its_columns_stay_in_order(
    then: FeatureService, impact: str
) -> None:
    state = applied(service(view()), OTHER)
    change = only(make_plan([then, OTHER], state, full=True))
    assert (change.kind, change.impact) == ("feature service", impact)


def test_a_repository_deletes_what_it_no_longer_defines_users_first() -> None:
    state = applied(service(view()), OTHER)
    plan = make_plan([OTHER], state, full=True)
    assert changes(plan) == ["delete feature service fraud", "delete feature view spend"]
    assert [str(change.ref) for change in plan.deletions] == [
        "feature service fraud",
        "feature view spend",
    ]
    assert {change.impact for change in plan.deletions} == {"destructive"}
    assert plan.deletions[1].affects == (ObjectRef("feature service", "fraud"),)


def test_applying_objects_never_deletes() -> None:
    plan = make_plan([OTHER], applied(service(view())), full=False)
    assert changes(plan) == ["create feature view other"]


def test_an_empty_repository_deletes_everything() -> None:
    state = applied(service(view()))
    plan = make_plan([], state, full=True)
    assert plan.count("delete") == 4
    assert after(plan, state).definitions == ()


def test_a_view_that_comes_back_goes_on_behind_its_last_generation() -> None:
    second = applied(view(ttl=timedelta(days=1)), before=applied(view()))
    gone = applied(OTHER, before=second)
    assert gone.retired == {"spend": 2}
    plan = make_plan([view(), OTHER], gone, full=True)
    assert plan.changes[0].generation_after == 3
    assert after(plan, gone).view("spend").generation == 3


def test_a_registered_view_that_does_not_fit_a_new_source_is_named() -> None:
    clash = SALES.model_copy(update={"timestamp_field": "n"})
    with pytest.raises(DefinitionError) as caught:
        make_plan([clash], applied(view()), full=False)
    assert "The registered feature view 'spend' does not fit" in caught.value.message
    assert "feature 'n' has the name of the source's time column 'n'" in caught.value.message


def test_a_feature_that_a_registered_service_uses_cannot_go_without_it() -> None:
    state = applied(service(view()[["n"]]))
    with pytest.raises(DefinitionError) as caught:
        make_plan([view(fields=[AMOUNT])], state, full=False)
    assert "The registered feature service 'fraud' does not fit" in caught.value.message
    assert "no feature 'n' in feature view 'spend'" in caught.value.message
    both = make_plan([service(view(fields=[AMOUNT])[["amount"]])], state, full=False)
    assert changes(both) == ["update feature view spend", "update feature service fraud"]


@pytest.mark.parametrize(
    ("kind", "name", "user"),
    [
        ("entity", "user", "feature view 'spend'"),
        ("source", "sales", "feature view 'spend'"),
        ("feature view", "spend", "feature service 'fraud'"),
    ],
)
def test_what_is_used_cannot_be_deleted_and_both_are_named(kind: str, name: str, user: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        plan_deletion([ObjectRef(kind, name)], applied(service(view())))
    assert caught.value.message == (
        f"{kind.capitalize()} {name!r} cannot be deleted: {user} uses it."
    )


def test_objects_can_be_deleted_together_with_their_users() -> None:
    state = applied(service(view()), OTHER)
    targets = [ObjectRef("feature view", "spend"), ObjectRef("feature service", "fraud")]
    plan = plan_deletion(targets, state)
    assert changes(plan) == ["delete feature service fraud", "delete feature view spend"]


@pytest.mark.parametrize("kind", ["feature view", "no such kind"])
def test_deleting_what_is_not_there_says_so(kind: str) -> None:
    with pytest.raises(NotFoundError, match=f"There is no {kind} 'spent' in project 'shop'"):
        plan_deletion([ObjectRef(kind, "spent")], applied(view()))


def test_lookups_suggest_names_that_look_alike() -> None:
    state = applied(service(view()))
    assert state.view("spend").definition == view()
    assert (state.entity("user"), state.source("sales")) == (USER, SALES)
    assert state.service("fraud") == service(view())
    for find, name, kind in [
        (state.entity, "usr", "entity"),
        (state.source, "sale", "source"),
        (state.view, "Spent", "feature view"),
        (state.service, "frauds", "feature service"),
    ]:
        with pytest.raises(NotFoundError) as caught:
            find(name)
        assert caught.value.kind == kind
        assert len(caught.value.suggestions) == 1


def test_a_snapshot_cannot_be_changed() -> None:
    state = applied(view())
    with pytest.raises(TypeError):
        state.views["x"] = state.views["spend"]  # type: ignore[index]


def test_the_content_hash_follows_the_definitions_and_nothing_else() -> None:
    once = applied(view())
    again = applied(view(), before=applied(view(ttl=timedelta(days=1)), before=once))
    assert again.view("spend").generation == 3
    assert again.content_hash == once.content_hash
    assert applied(view(description="x")).content_hash != once.content_hash


def test_the_views_to_check_are_those_asked_for_and_those_that_change() -> None:
    state = applied(view(), OTHER, view("third", source=SALES.model_copy(update={"name": "s2"})))
    moved = SALES.model_copy(update={"path": "moved.parquet"})
    plan = make_plan([moved], state, full=False)
    assert [v.name for v in plan.target_views] == ["other", "spend"]
    assert {v.source.path for v in plan.target_views} == {"moved.parquet"}
    unchanged = make_plan([view()], state, full=False)
    assert unchanged.is_empty
    assert unchanged.target_views == (view(),)


def test_fields_are_compared_by_name_and_their_order_is_a_change() -> None:
    before = view(fields=[AMOUNT, COUNT, Field(name="a.b", dtype=Int32)]).to_document()
    after_ = view(
        fields=[Field(name="a.b", dtype=Int64), AMOUNT, Field(name="x", dtype=String)]
    ).to_document()
    found = {change.path: (change.before, change.after) for change in field_changes(before, after_)}
    assert found.keys() == {"schema.n", 'schema."a.b".dtype', "schema.x", "schema"}
    assert found['schema."a.b".dtype'] == ("int32", "int64")
    assert found["schema.n"][1] is None
    assert found["schema.x"][0] is None
    assert found["schema"] == (["amount", "n", "a.b"], ["a.b", "amount", "x"])


def test_tags_are_compared_one_by_one() -> None:
    before, then = {"tags": {"a": "1", "b": "2"}}, {"tags": {"b": "3", "c": "4"}}
    assert field_changes(before, then) == (
        FieldChange(path="tags.a", before="1", after=None),
        FieldChange(path="tags.b", before="2", after="3"),
        FieldChange(path="tags.c", before=None, after="4"),
    )


def test_a_plan_is_json_with_a_schema_version() -> None:
    state = applied(service(view()))
    moved = SALES.model_copy(update={"path": "moved.parquet"})
    plan = make_plan([view(source=moved)], state, full=True)
    document = json.loads(plan.to_json())
    assert document == plan.to_document()
    assert document["schema_version"] == 1
    assert document["base_revision"] == 1
    assert document["summary"] == {"create": 0, "update": 2, "delete": 1, "new_generations": 1}
    source, indirect, deletion = document["changes"]
    assert source["fields"] == [
        {"path": "path", "before": "sales.parquet", "after": "moved.parquet"}
    ]
    assert indirect["through"] == [{"kind": "source", "name": "sales"}]
    assert indirect["affects"] == [{"kind": "feature service", "name": "fraud"}]
    assert deletion["before"]["name"] == "fraud"
    assert deletion["after"] is None


def test_a_plan_prints_as_signed_lines_and_a_summary() -> None:
    state = applied(service(view()), OTHER)
    moved = SALES.model_copy(update={"path": "moved.parquet"})
    fields = [AMOUNT, COUNT, Field(name="country", dtype=String)]
    desired = [view(source=moved, fields=fields), view("fresh", source=moved)]
    assert render_plan(make_plan(desired, state, full=True)) == [
        "~ update source sales (breaking)",
        '    path: "sales.parquet" -> "moved.parquet"',
        "    used by feature view other, feature view spend, feature service fraud",
        "+ create feature view fresh",
        "~ update feature view spend (breaking; generation 1 -> 2)",
        "    meaning changes through source sales",
        '    schema.country: none -> {"name": "country", "dtype": "string"}',
        "    used by feature service fraud",
        "- delete feature service fraud",
        "- delete feature view other",
        "",
        "Plan: 1 to add, 2 to change (1 new generation), 2 to delete",
    ]


def test_hostile_text_can_neither_break_a_line_nor_move_the_cursor() -> None:
    nasty = "a\n+ create entity fake\x1b[2J\u202e\u2028" + "x" * 4_000
    state = applied(view())
    lines = render_plan(make_plan([view(description=nasty)], state, full=True))
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert len(lines[1]) < MAX_VALUE + 50
