def test_a_client_learns_that_both_keys_are_needed(client):
    described = client.control("GET", "/openapi.json").json()
    schemes = described["components"]["securitySchemes"].values()
    assert {scheme["name"] for scheme in schemes} == {"X-API-Key", "X-Secret-Key"}
    for path, method in (
        ("/v1/patients", "put"),
        ("/v1/patients/{code}", "get"),
        ("/v1/patients/authenticate", "post"),
    ):
        assert described["paths"][path][method]["security"]


def test_the_docs_example_of_an_upsert_is_accepted(client):
    described = client.control("GET", "/openapi.json").json()
    content = described["paths"]["/v1/patients"]["put"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    assert client.send("PUT", "/patients", json=example).status_code == 200


def test_the_docs_describe_every_setting_and_outcome(client):
    described = client.control("GET", "/openapi.json").json()
    settings = described["components"]["schemas"]["Settings"]["properties"]
    assert all(setting["description"] for setting in settings.values())
    assert "`lost_after`" in described["paths"]["/sandbox/script"]["post"]["description"]
