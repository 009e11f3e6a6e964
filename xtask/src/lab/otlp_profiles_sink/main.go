// A collector for OTLP profiles that counts their samples and keeps nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"

	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // The profiler compresses what it sends.
)

// As much as the profiler sends at once.
const requestMaxBytes = 32 << 20

type sink struct {
	collector.UnimplementedProfilesServiceServer
}

// Export prints two lines a request: how many samples it held, and how many frames most of them have. A sample that was
// taken several times is one entry with as many timestamps.
func (sink) Export(
	_ context.Context, request *collector.ExportProfilesServiceRequest,
) (*collector.ExportProfilesServiceResponse, error) {
	samples := 0
	stacks := request.Dictionary.GetStackTable()
	samplesOfDepth := map[int]int{}
	for _, resource := range request.ResourceProfiles {
		for _, scope := range resource.ScopeProfiles {
			for _, profile := range scope.Profiles {
				for _, sample := range profile.Samples {
					samples += len(sample.TimestampsUnixNano)
					if index := int(sample.StackIndex); index >= 0 && index < len(stacks) {
						samplesOfDepth[len(stacks[index].LocationIndices)] += len(sample.TimestampsUnixNano)
					}
				}
			}
		}
	}
	frames := 0
	for depth, count := range samplesOfDepth {
		if count > samplesOfDepth[frames] {
			frames = depth
		}
	}
	fmt.Printf("samples=%d\nframes=%d\n", samples, frames)
	return &collector.ExportProfilesServiceResponse{}, nil
}

func main() {
	address := flag.String("listen", "127.0.0.1:0", "`host:port` to listen on; port 0 takes a free one")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening=%s\n", listener.Addr())
	server := grpc.NewServer(grpc.MaxRecvMsgSize(requestMaxBytes))
	collector.RegisterProfilesServiceServer(server, sink{})
	log.Fatal(server.Serve(listener))
}
