def test_the_api_docs_are_available(client):
    answer = client.control("GET", "/docs")
    assert answer.status_code == 200
    assert "SwaggerUIBundle" in answer.text


def test_the_docs_let_a_user_enter_both_keys(client):
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


def test_the_dashboard_shows_the_base_url_counters_requests_and_settings(client, patient):
    client.put(patient)
    client.box.script("get", "503")
    client.get()
    page = client.control("GET", "/").text
    assert client.box.url in page
    assert "<td>requests upsert 200</td><td>1</td>" in page
    assert "<td>/v1/patients/{code}</td><td>503</td>" in page
    assert "<td>lag</td>" in page
    assert page.index("{code}</td>") < page.index("<td>/v1/patients</td>"), "latest first"


def test_the_dashboard_has_no_patient_data_and_no_script(client, patient):
    client.put({**patient, "first_name": "Adalovelace"})
    client.get("m-1")
    page = client.control("GET", "/").text
    assert "m-1" not in page
    assert "Adalovelace" not in page
    assert "<script" not in page


def test_the_dashboard_shows_a_limited_number_of_requests(client):
    for _ in range(60):
        client.get()
    assert client.control("GET", "/").text.count("{code}</td>") == 50


def test_the_dashboard_escapes_what_it_shows(client):
    client.box.settings.refuse_tax_id = '<script>&"1"</script>'
    page = client.control("GET", "/", headers={"Host": "a&b'c"}).text
    assert "<td>&lt;script&gt;&amp;&quot;1&quot;&lt;/script&gt;</td>" in page
    assert "<code>http://a&amp;b&#x27;c/v1</code>" in page
    assert "<script" not in page
