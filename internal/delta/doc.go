// Package delta expresses the content of a file as the blocks that the other side lacks.
//
// The side that has the old content (the basis) cuts it into blocks and sends two short hashes of each (Sign). The side that has the new
// content (the target) looks for these blocks at every place of it and sends the rest (Signature.Diff). The first side builds the
// target from both (Patcher), and the hash of the whole (Hash) tells whether it is right. Without a basis, Whole sends everything.
// Coder is the compact form of the operations.
//
// # What it is measured by
//
// The bytes on the wire are no more than rsync's, and 5 % as a margin (a test compares both over many kinds of changes; the two exceptions are
// named below); content that changed in place, or not at all, is compared as fast as memory or disk give it; and the time is in
// proportion to the size, whatever the content is and whoever made it.
//
// # Why this shape
//
// Blocks at fixed places of the basis, with a hash that rolls over the target, are rsync's scheme, and so is the size of the blocks: the root of
// the file's size. With blocks like rsync's, searched as thoroughly, the data sent is never more than rsync's, so only signature and
// operations have to be cheaper. An entry has as many bits as rsync's (enough for one wrong match in a thousand files, which the
// hash of the whole finds: then Params.Stronger), and copies that follow each other are one operation.
//
// The rolling hash is a polynomial over 32-bit words, modulo 2^64, at a secret point. rsync's sum of sums takes few values on content of
// few different bytes (logs, bitmaps, tables of small numbers), so that nearly every place leads into a long chain of blocks and has its strong hash computed:
// 12 kB/s were reported for some files. Ours spreads over all its bits whatever the bytes are. As only its upper half is uniform for content of
// that kind, the entry has its first bytes.
//
// Diff tries, before it searches: the block that follows the one just matched, then the block at the same place. Unchanged and shifted
// stretches thus need one evaluation of each hash for a block, which run at memory speed, and never roll. The search itself rolls at four
// neighbouring places at once, which need not wait for each other because the window moves by whole words, and
// asks a bit filter before any table. It only runs over what will be sent as data, more or less, and so is rarely what takes the time.
//
// That the time is linear does not rest on hashes alone: it is possible to construct content that collides at every place (Thue and Morse
// showed how), and a hostile other side can send any signature. So strong hashes computed for nothing are counted, and when
// they are more than honest content ever causes, the search is given up for this file: from there on only aligned places are looked at. Slots of the table
// are bounded likewise. Both cost bytes for him who made the content, not time for the rest.
//
// Holes are told as holes, exactly, and neither read nor hashed nor searched, except for one block's length around them, since a block of
// the basis may lie across. The hash of the whole counts pages of zeros instead of reading them, so that an empty terabyte takes no time, and yet depends
// on the content only. Each hole costs two to six bytes, which is the one thing that rsync does not send.
//
// # What was rejected
//
//   - Comparing blocks at fixed places only: fastest, but one byte inserted at the front sends the whole file.
//   - Blocks cut by content: signature and search are cheap, but large blocks are hit by more changes than small ones, so
//     that the same number of blocks means more data, and an entry must have its length too.
//   - A polynomial modulo the prime 2^61-1, for which no content is bad as long as the point is secret. It was written and measured: half
//     the speed when rolling, a third when hashing blocks, and the count of wasted hashes is needed against hostile signatures all the same.
//   - A cyclic polynomial (buzhash): what repeats every 64 bytes cancels itself out.
//   - Several block sizes, or finding the changed bytes within a block in further rounds: fewer bytes where changes are tiny, but a round trip for each,
//     and the wire is never asked to wait.
//   - Larger blocks for larger files, as a smaller signature: whatever is won by it on the signature is lost on the data of scattered changes, beyond
//     the 5 %. Only above a tebibyte are the blocks larger than its, so that the memory for a signature stays bounded.
package delta
