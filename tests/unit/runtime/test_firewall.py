from __future__ import annotations

from ipaddress import IPv4Network

from hakobune.runtime.firewall import choose_forward_chain, missing_docker_rules, ruleset


def test_the_table_is_replaced_in_one_transaction_and_uses_no_keyword_as_a_name() -> None:
    script = ruleset("hako", "hakobr", IPv4Network("10.79.0.0/20"))

    assert script.split() [:6] == ["table", "inet", "hako", "{}", "delete", "table"]  # fmt: skip
    names = [line.split()[1] for line in script.splitlines() if line.strip().startswith("chain ")]
    assert not {"fwd", "rt", "input", "forward"} & set(names)


DOCKER = """-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
"""


def test_dockers_own_chain_is_used_where_docker_is() -> None:
    assert choose_forward_chain(DOCKER) == "DOCKER-USER"
    assert missing_docker_rules(DOCKER, "hakobr") == (
        ("-I", "DOCKER-USER", "-i", "hakobr", "-j", "ACCEPT"),
        ("-I", "DOCKER-USER", "-o", "hakobr", "-m", "conntrack",
         "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
    )  # fmt: skip


def test_rules_that_are_there_are_not_added_again() -> None:
    present = DOCKER + (
        "-A DOCKER-USER -i hakobr -j ACCEPT\n"
        "-A DOCKER-USER -o hakobr -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    )

    assert missing_docker_rules(present, "hakobr") == ()
    assert len(missing_docker_rules(present, "otherbr")) == 2


def test_a_firewall_that_drops_forwarding_gets_them_in_its_chain() -> None:
    assert choose_forward_chain("-P FORWARD DROP\n-A FORWARD -j ufw\n") == "FORWARD"


def test_a_machine_that_forwards_needs_no_rule() -> None:
    assert missing_docker_rules("-P INPUT ACCEPT\n-P FORWARD ACCEPT\n", "hakobr") == ()
    assert missing_docker_rules("", "hakobr") == ()
