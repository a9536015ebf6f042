package binxml

import (
	"testing"
	"unsafe"
)

func TestTheCostOfNodesAndAttributesIsTheirSize(t *testing.T) {
	if size := unsafe.Sizeof(Node{}); size != nodeCost {
		t.Errorf("a Node has %d bytes", size)
	}
	if size := unsafe.Sizeof(Attr{}); size != attrCost {
		t.Errorf("an Attr has %d bytes", size)
	}
}
