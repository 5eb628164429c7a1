// Package delta expresses the content of a file as the blocks that the other side lacks.
package delta
