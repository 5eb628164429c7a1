// Package gluster is what a GlusterFS installation says and offers to a replicator.
package gluster

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// Volume is what `gluster volume info` says of one volume.
type Volume struct {
	Name    string
	ID      string
	Started bool
	// Distribute is the number of subvolumes; Replica and Disperse are the bricks of one, 1 and 0 where there are no copies or no pieces.
	Distribute, Replica, Arbiter, Disperse, Redundancy int
	Bricks                                             []Brick // in the order of the volume: the bricks of a subvolume are neighbours
	Options                                            map[string]string
}

// Brick is one brick of a volume.
type Brick struct {
	Host    string // as the volume was made with: a name or an address
	Path    string
	HostID  string // glusterd's id of the node
	Arbiter bool
}

// Subvolume is the number, from 1, of the subvolume to which the brick of that index belongs.
func (v Volume) Subvolume(index int) int {
	width := max(v.Replica, 1)
	if v.Disperse > 0 {
		width = v.Disperse
	}
	return index/width + 1
}

// ErrNoVolume is the error of an answer that tells of no volume.
var ErrNoVolume = errors.New("gluster tells of no volume of that name")

// ParseInfo reads the XML of `gluster --xml volume info`. What the gluster command itself reports as failed is an error with its text.
func ParseInfo(text []byte) ([]Volume, error) {
	var answer struct {
		Return  int    `xml:"opRet"`
		Errno   int    `xml:"opErrno"`
		Text    string `xml:"opErrstr"`
		Volumes []struct {
			Name       string `xml:"name"`
			ID         string `xml:"id"`
			Status     string `xml:"statusStr"`
			Distribute int    `xml:"distCount"`
			Replica    int    `xml:"replicaCount"`
			Arbiter    int    `xml:"arbiterCount"`
			Disperse   int    `xml:"disperseCount"`
			Redundancy int    `xml:"redundancyCount"`
			Bricks     []struct {
				Name    string `xml:"name"`
				HostID  string `xml:"hostUuid"`
				Arbiter int    `xml:"isArbiter"`
			} `xml:"bricks>brick"`
			Options []struct {
				Name  string `xml:"name"`
				Value string `xml:"value"`
			} `xml:"options>option"`
		} `xml:"volInfo>volumes>volume"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("read what gluster says of volumes: %w", err)
	}
	if answer.Return != 0 {
		return nil, fmt.Errorf("gluster volume info failed: %s (%d)", answer.Text, answer.Errno)
	}
	var volumes []Volume
	for _, a := range answer.Volumes {
		v := Volume{
			Name: a.Name, ID: a.ID, Started: a.Status == "Started", Distribute: max(a.Distribute, 1), Replica: max(a.Replica, 1),
			Arbiter: a.Arbiter, Disperse: a.Disperse, Redundancy: a.Redundancy, Options: map[string]string{},
		}
		for _, b := range a.Bricks {
			host, path, ok := strings.Cut(b.Name, ":/")
			if !ok {
				return nil, fmt.Errorf("read what gluster says of volumes: the brick %q is not HOST:/PATH", b.Name)
			}
			v.Bricks = append(v.Bricks, Brick{Host: host, Path: "/" + path, HostID: b.HostID, Arbiter: b.Arbiter == 1})
		}
		for _, o := range a.Options {
			v.Options[o.Name] = o.Value
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// FindVolume gives the volume of a name; the error is ErrNoVolume when the answer has none.
func FindVolume(text []byte, name string) (Volume, error) {
	volumes, err := ParseInfo(text)
	if err != nil {
		return Volume{}, err
	}
	for _, v := range volumes {
		if v.Name == name {
			return v, nil
		}
	}
	return Volume{}, fmt.Errorf("%w: %s", ErrNoVolume, name)
}
