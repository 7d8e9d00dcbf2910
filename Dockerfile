# syntax=docker/dockerfile:1

FROM golang:1.26.8-alpine AS build
ARG VERSION=unknown
ARG REVISION=unknown
RUN apk add --no-cache ca-certificates
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
COPY schema schema
COPY charts charts
# timetzdata puts the zone database into the binary, so that the image needs none.
RUN CGO_ENABLED=0 go build -trimpath -tags timetzdata \
      -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" \
      -o /forged ./cmd/forged

FROM scratch
LABEL org.opencontainers.image.title="forged" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /forged /forged
# No name: there is no /etc/passwd. forged writes no file, so that the root file
# system may be read-only.
USER 65532:65532
WORKDIR /etc/forged
EXPOSE 9464
ENTRYPOINT ["/forged"]
CMD ["run", "--config", "/etc/forged/forge.cue", "--log-format", "json"]
