"""Where blobs are kept in S3: a bucket, a prefix, and how its server is reached."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from hakobune.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Address:
    """A place for objects: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&addressing=path|host`."""

    bucket: str
    prefix: str  # empty, or ends with a slash
    endpoint: str
    region: str
    by_path: bool

    @classmethod
    def parse(cls, url: str) -> S3Address:
        """Without an endpoint it is AWS's, by host; with one the bucket is in the path unless `addressing=host`.

        Raises:
            UsageError: the URL names no bucket, or has a parameter that nobody knows.
        """
        parts = urlsplit(url)
        query = {name: texts[-1] for name, texts in parse_qs(parts.query).items()}
        region = query.pop("region", "us-east-1")
        endpoint = query.pop("endpoint", "").rstrip("/")
        addressing = query.pop("addressing", "path" if endpoint else "host")
        endpoint = endpoint or f"https://s3.{region}.amazonaws.com"
        if (
            parts.scheme != "s3"
            or not parts.netloc
            or query
            or addressing not in ("path", "host")
            or urlsplit(endpoint).scheme not in ("http", "https")
        ):
            raise UsageError(
                f"cannot keep blobs in {url!r}",
                why="a place in S3 is s3://BUCKET/PREFIX, with endpoint, region and addressing as parameters",
                fix="HAKO_REGISTRY_STORAGE='s3://hako/registry?endpoint=http://localhost:9000'",
            )
        prefix = parts.path.strip("/")
        return cls(
            bucket=parts.netloc,
            prefix=f"{prefix}/" if prefix else "",
            endpoint=endpoint,
            region=region,
            by_path=addressing == "path",
        )

    @property
    def secure(self) -> bool:
        return self.endpoint.startswith("https:")

    @property
    def host(self) -> str:
        """HOST or HOST:PORT, as the Host header has it."""
        host = urlsplit(self.endpoint).netloc
        return host if self.by_path else f"{self.bucket}.{host}"

    def path(self, key: str) -> str:
        """The path of a URL, not percent-encoded, of an object; of the bucket for an empty key."""
        return f"/{self.bucket}/{key}" if self.by_path else f"/{key}"
