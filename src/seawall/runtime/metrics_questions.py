"""What an autoscaler asked, by the path, and the answer to it. Pure.

/keda/SERVICE/METRIC                                        KEDA's metrics-api scaler
/apis/external.metrics.k8s.io/v1beta1/namespaces/NS/METRIC   a HorizontalPodAutoscaler
/apis/custom.metrics.k8s.io/v1beta2/namespaces/NS/services/SERVICE/METRIC
/apis/custom.metrics.k8s.io/v1beta2/namespaces/NS/pods/{POD,*}/METRIC
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

from seawall.errors import Misconfigured
from seawall.runtime import metrics_shapes as shapes
from seawall.runtime.label_selector import Selector, selector
from seawall.runtime.metrics_shapes import Body, Value

# The label by which a figure's service is named.
SERVICE = "service"

# Labels of a service's pods, as `seawall deploy kubernetes` writes them.
NAME, PART_OF = "app.kubernetes.io/name", "app.kubernetes.io/part-of"

Answer = tuple[int, Body]
Known = Callable[[str, str], Value | None]  # of a service and a metric


@dataclass(frozen=True, slots=True)
class Catalog:
    """Which figures there are to ask for: of each service the declared ones."""

    project: str
    figures: Mapping[str, Sequence[str]]

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(metric for each in self.figures.values() for metric in each)

    def having(self, metric: str) -> Iterator[str]:
        return (name for name, each in sorted(self.figures.items()) if metric in each)


@dataclass(frozen=True, slots=True)
class Desk:
    """Answers, of the figures in the catalog, with what is `known`."""

    catalog: Catalog
    known: Known

    def answer(self, path: str, query: str) -> Answer:
        """Status and body for a GET."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        try:
            match parts:
                case ["livez" | "readyz" | "healthz"]:
                    return HTTPStatus.OK, {"status": "ok"}
                case ["keda", service, metric]:
                    return self._keda(service, metric)
                case ["apis", "external.metrics.k8s.io", "v1beta1", *rest]:
                    return self._external(rest, _selected(query))
                case ["apis", "custom.metrics.k8s.io", "v1beta2", *rest]:
                    return self._custom(rest, _selected(query))
        except Misconfigured as exc:
            return _no(HTTPStatus.BAD_REQUEST, "BadRequest", str(exc))
        return _no(HTTPStatus.NOT_FOUND, "NotFound", f"there is nothing at {path}")

    def _keda(self, service: str, metric: str) -> Answer:
        if metric not in self.catalog.figures.get(service, ()):
            return self._undeclared(f"{service}/{metric}")
        value = self.known(service, metric)
        if value is None:  # an error, so that KEDA does not take it for nothing
            message = f"{metric} of {service} is not known at present"
            return _no(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
        return HTTPStatus.OK, shapes.keda(value)

    def _external(self, rest: list[str], selects: Selector) -> Answer:
        match rest:
            case []:
                return HTTPStatus.OK, shapes.external_resources(self.catalog.metrics)
            case ["namespaces", _, metric] if metric in self.catalog.metrics:
                found = [
                    ({SERVICE: service}, value) for service, value in self._known(metric, selects)
                ]
                return HTTPStatus.OK, shapes.external(metric, found)
        return self._undeclared(rest[-1])

    def _custom(self, rest: list[str], selects: Selector) -> Answer:
        match rest:
            case []:
                return HTTPStatus.OK, shapes.custom_resources(self.catalog.metrics)
            case ["namespaces", namespace, kind, name, metric] if metric in self.catalog.metrics:
                known = self._known(metric, selects)
                if kind == "services":
                    values = [(one, value.total, value.at) for one, value in known]
                    kept = [each for each in values if name in ("*", each[0])]
                    return HTTPStatus.OK, shapes.custom("Service", namespace, metric, kept)
                if kind == "pods":
                    kept = [each for each in _pods(known) if name in ("*", each[0])]
                    return HTTPStatus.OK, shapes.custom("Pod", namespace, metric, kept)
        return self._undeclared(rest[-1])

    def _known(self, metric: str, selects: Selector) -> Iterator[tuple[str, Value]]:
        for service in self.catalog.having(metric):
            labels = {NAME: service, PART_OF: self.catalog.project, SERVICE: service}
            value = self.known(service, metric) if selects(labels) else None
            if value is not None:
                yield service, value

    def _undeclared(self, name: str) -> Answer:
        listed = ", ".join(sorted(self.catalog.metrics)) or "none"
        message = f"no service declares {name!r} (declared: {listed})"
        return _no(HTTPStatus.NOT_FOUND, "NotFound", message)


def _pods(known: Iterable[tuple[str, Value]]) -> Iterator[tuple[str, float, float]]:
    for _, value in known:
        for pod, amount in sorted(value.pods.items()):
            yield pod, amount, value.at


def _selected(query: str) -> Selector:
    return selector(parse_qs(query).get("labelSelector", [""])[0])


def _no(code: int, reason: str, message: str) -> Answer:
    return int(code), shapes.status(int(code), reason, message)
