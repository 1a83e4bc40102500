// What tests start as a Kubernetes API: etcd, kube-apiserver, kube-controller-manager and kubectl
// in one program, chosen by its first argument. Holds nothing of its own but etcd's settings, which
// are for data that may be lost.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = `usage: apiserver etcd FOLDER CLIENT_ADDRESS PEER_ADDRESS
       apiserver compact CLIENT_ADDRESS
       apiserver kube-apiserver|kube-controller-manager|kubectl ARGUMENTS`

var commands = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": manager.NewControllerManagerCommand,
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

func main() {
	arguments := os.Args[1:]
	var err error
	switch {
	case len(arguments) == 4 && arguments[0] == "etcd":
		err = etcd(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 2 && arguments[0] == "compact":
		err = compact(arguments[1])
	case len(arguments) > 0 && commands[arguments[0]] != nil:
		os.Args = arguments
		os.Exit(cli.Run(commands[arguments[0]]()))
	default:
		err = fmt.Errorf("%s", usage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// etcd runs one member until a signal ends it; it never waits for the disk.
func etcd(folder, client, peer string) error {
	clients, peers := endpoint(client), endpoint(peer)
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = folder, "warn", true
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
	config.InitialCluster = config.Name + "=" + peers[0].String()
	member, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer member.Close()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err = <-member.Err():
	case <-ended:
	}
	return err
}

// compact forgets all revisions but the newest.
func compact(address string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + address}})
	if err != nil {
		return err
	}
	defer client.Close()
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	newest, err := client.Get(limit, "/")
	if err != nil {
		return err
	}
	_, err = client.Compact(limit, newest.Header.Revision, clientv3.WithCompactPhysical())
	return err
}

func endpoint(address string) []url.URL {
	return []url.URL{{Scheme: "http", Host: address}}
}
