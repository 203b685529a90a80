"""Words for a missing value, and what spreadsheets turn values into."""

import pytest

TEXTS = ["code", "first_name", "last_name", "tax_id", "plan", "gender", "locale", "email", "phone"]
IDENTIFIERS = ["code", "plan", "tax_id", "phone"]
NAMES = ["first_name", "last_name"]


@pytest.mark.parametrize(
    "word",
    [r"\N", " \\N ", "#N/A", "#n/a", "#N/D", "#NV", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!"]
    + ["#NULL!", "#NUM!", "#¡REF!", "#¿NOMBRE?", "#¡DIV/0!", "#ÜBERLAUF!", "####", "Err:502"]
    + ["(null)", "[NULL]", "<NA>", "<null>", r"\\N", "#N/A N/A", "#NA", "Fehler:502"]
    + ["#ЗНАЧ!", "#\u041d/Д", "#ДЕЛ/0!", "#AD?", "#DEĞER!", "#BAŞV!", "#YOK", "#ČÍSLO!", "#BŁĄD!"]
    + ["#NENÍ_K_DISPOZICI", "#HIÁNYZIK", "#I/T", "#N/B", "#N/D!", "#OMRÅDE!", "#NÉV?", "#ОШИБКА!"]
    + ["#REF", "#ERROR", "#Error", "#CYCLE", "#SPILL", "#BAD_EXPR", "#Deleted", "#LOADING..."],
)
def test_a_word_for_a_missing_value_is_never_sent(rule, word):
    assert {name: rule(name, word) for name in TEXTS} == dict.fromkeys(TEXTS, "null")


@pytest.mark.parametrize(
    "word",
    ["NULL", "null", "Null", "None", "nan", "NaN", "NaT", "n/a", "-nan"]
    + ["1.#QNAN", "-1.#IND", "1,#inf"],
)
def test_null_is_no_identifier(rule, word):
    assert {name: rule(name, word) for name in IDENTIFIERS} == dict.fromkeys(IDENTIFIERS, "null")


@pytest.mark.parametrize("word", ["Null", "NULL", "Nan", "None", "Na", "Nunez", "Undefined"])
@pytest.mark.parametrize("name", NAMES)
def test_a_member_may_be_called_null_or_nan(sent, name, word):
    assert sent(name, word) == word


@pytest.mark.parametrize(
    "word",
    ["#A", "#A1", "#Plan", "#1!", "#N/A1", "F", "Fehler", "Fehler:51"]
    + ["#A/B", "#M/F", "#Ya!", "#Cycle", "#Ref"]
    + ["#", "#1", "\\", "<3", "(1)", "[a]", "=", "=A", "N", "NA", "Nan-1", "-", "1#", "-1"],
)
def test_other_words_are_values(sent, word):
    names = ["code", "plan", "tax_id"]
    assert {name: sent(name, word) for name in names} == dict.fromkeys(names, word)


@pytest.mark.parametrize(
    "value", ['="00123"', '=""', "=00123", "=NA()", "=VLOOKUP(A1,B:C,2,0)", "=Buscarv(A1;B:C;2)"]
)
def test_a_formula_is_no_value(rule, value):
    names = [*IDENTIFIERS, *NAMES]
    assert {name: rule(name, value) for name in names} == dict.fromkeys(names, "spreadsheet")


@pytest.mark.parametrize(
    "value",
    [
        "1.23457E+11",
        "1,23457E+11",
        "1.23457e+11",
        "4E+10",
        "-1.2E+100",
        "12.5E+9",
        "'00124",
        "'+4477",
    ]
    # Java's numbers with a point, and its decimals.
    + ["1.2345678E7", "3.456E11", "3E+1", "1.23456789E+9", "50E+3"],
)
def test_a_number_that_a_spreadsheet_has_changed_is_no_identifier(rule, value):
    found = {name: rule(name, value) for name in IDENTIFIERS}
    assert found == dict.fromkeys(IDENTIFIERS, "spreadsheet")


@pytest.mark.parametrize(
    "value", ["1E5", "12.5E11", "1.E5", "E+11", "'t Hooft", "1.23457E-11", "A1E+11", "1.5E7A"]
)
def test_other_codes_with_an_e_or_an_apostrophe_are_codes(sent, value):
    assert sent("code", value) == value


def test_a_name_may_begin_with_an_apostrophe(sent):
    assert sent("last_name", "'t Hooft") == "'t Hooft"


@pytest.mark.parametrize(
    "text", ["\u200b", " \u200b\u00a0", "\u2800", "\ufeff", "\u00ad\u2060", "\u3164", "\ufe0f"]
)
def test_text_without_a_visible_character_is_blank(rule, sent, text):
    assert rule("first_name", text) == "required"
    assert rule("code", text) == "required"
    assert sent("last_name", text) is None
    assert sent("plan", text) is None
    assert sent("birth_date", text) is None


@pytest.mark.parametrize("text", ["A\u200bda", "\u200bAda", "Ada\u2800"])
def test_text_with_a_visible_character_is_sent_as_given(sent, text):
    assert sent("last_name", text) == text
