// A receiver of pushes as today's Pyroscope has it: the connect handler generated from its own protocol files in front
// of Go's own pprof decoder. It prints the address it listens on, then one line of JSON for each series pushed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
)

// The header that separates tenants.
const tenantHeader = "X-Scope-OrgID"

type series struct {
	Tenant    string            `json:"tenant"`
	Protocol  string            `json:"protocol"`
	Labels    map[string]string `json:"labels"`
	Types     []string          `json:"types"`
	PeriodNS  int64             `json:"period_ns"`
	Functions map[string]int64  `json:"functions_ns"`
}

type pusher struct {
	lines *json.Encoder
}

// Push fails the request for the first profile that Go would not open.
func (p pusher) Push(_ context.Context, request *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	for _, pushed := range request.Msg.Series {
		labels := map[string]string{}
		for _, pair := range pushed.Labels {
			labels[pair.Name] = pair.Value
		}
		for _, sample := range pushed.Samples {
			line, err := decode(sample.RawProfile)
			if err != nil {
				fmt.Fprintf(os.Stderr, "invalid: %v: %v\n", labels, err)
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			line.Tenant = request.Header().Get(tenantHeader)
			line.Protocol = request.Peer().Protocol
			line.Labels = labels
			if err := p.lines.Encode(line); err != nil {
				return nil, connect.NewError(connect.CodeInternal, err)
			}
		}
	}
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

// decode unpacks and checks a profile, and sums each function's time, once for each stack it is in.
func decode(raw []byte) (series, error) {
	decoded, err := profile.Parse(bytes.NewReader(raw))
	if err != nil {
		return series{}, err
	}
	if err := decoded.CheckValid(); err != nil {
		return series{}, err
	}
	line := series{PeriodNS: decoded.Period, Functions: map[string]int64{}}
	for _, kind := range decoded.SampleType {
		line.Types = append(line.Types, kind.Type+"/"+kind.Unit)
	}
	for _, sample := range decoded.Sample {
		seen := map[string]bool{}
		for _, location := range sample.Location {
			for _, at := range location.Line {
				if name := at.Function.Name; !seen[name] {
					seen[name] = true
					line.Functions[name] += sample.Value[0]
				}
			}
		}
	}
	return line, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// One write for each line; requests come one after another on one connection.
	routes := http.NewServeMux()
	routes.Handle(pushv1connect.NewPusherServiceHandler(pusher{lines: json.NewEncoder(os.Stdout)}))
	fmt.Printf("listen=%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, routes))
}
