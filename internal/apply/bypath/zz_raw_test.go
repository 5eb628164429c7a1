package bypath
import ("testing";"fmt";"sync/atomic";"golang.org/x/sys/unix";"bytes";"os")
func rawBench(b *testing.B, f func(dir, hold int, name string, data []byte)) {
	base := b.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 256)
	os.Mkdir(base+"/hold",0700)
	hold,_ := unix.Open(base+"/hold", unix.O_DIRECTORY,0)
	var fds []int
	for i:=0;i<=b.N/1000;i++ { os.Mkdir(fmt.Sprint(base,"/d",i),0755); fd,_ := unix.Open(fmt.Sprint(base,"/d",i), unix.O_DIRECTORY,0); fds=append(fds,fd)}
	var next atomic.Int64
	b.SetParallelism(8); b.ResetTimer()
	b.RunParallel(func(pb *testing.PB){ for pb.Next(){ n:=int(next.Add(1)-1); f(fds[n/1000],hold,fmt.Sprint("f",n),data)}})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
func attrs(fd int){ var st unix.Stat_t; unix.Fstat(fd,&st); unix.Flistxattr(fd,nil); unix.Fchmod(fd,0o651); unix.Futimes(fd,[]unix.Timeval{{Sec:5},{Sec:6}}); unix.Fstat(fd,&st); unix.NameToHandleAt(fd,"",unix.AT_EMPTY_PATH) }
func BenchmarkRawTmpfile(b *testing.B){ rawBench(b, func(d,h int,name string,data []byte){ fd,err:=unix.Openat(d,".",unix.O_TMPFILE|unix.O_RDWR,0600); if err!=nil{b.Error(err)}; unix.Pwrite(fd,data,0); attrs(fd); if err:=unix.Linkat(fd,"",d,name,unix.AT_EMPTY_PATH);err!=nil{b.Error(err)}; unix.Close(fd)}) }
func BenchmarkRawHold(b *testing.B){ rawBench(b, func(d,h int,name string,data []byte){ fd,err:=unix.Openat(h,name,unix.O_CREAT|unix.O_EXCL|unix.O_RDWR,0600); if err!=nil{b.Error(err)}; unix.Pwrite(fd,data,0); attrs(fd); if err:=unix.Renameat2(h,name,d,name,unix.RENAME_NOREPLACE);err!=nil{b.Error(err)}; unix.Close(fd)}) }
func BenchmarkRawBeside(b *testing.B){ rawBench(b, func(d,h int,name string,data []byte){ fd,err:=unix.Openat(d,".t"+name,unix.O_CREAT|unix.O_EXCL|unix.O_RDWR,0600); if err!=nil{b.Error(err)}; unix.Pwrite(fd,data,0); attrs(fd); if err:=unix.Renameat2(d,".t"+name,d,name,unix.RENAME_NOREPLACE);err!=nil{b.Error(err)}; unix.Close(fd)}) }
func BenchmarkRawDirect(b *testing.B){ rawBench(b, func(d,h int,name string,data []byte){ fd,err:=unix.Openat(d,name,unix.O_CREAT|unix.O_EXCL|unix.O_RDWR,0600); if err!=nil{b.Error(err)}; unix.Pwrite(fd,data,0); attrs(fd); unix.Close(fd)}) }
