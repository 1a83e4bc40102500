use ingress_trace::probe::*;
fn main(){ let env=preflight::check().unwrap(); let s=Settings{http:true,slow:std::time::Duration::from_secs(1),names:true,log:false};
 let mut p=Probe::load(&s,&env).map_err(|e| {eprintln!("{e:?}"); std::process::exit(1)}).unwrap();
 p.allow_names(["nginx"].into_iter()).unwrap();
 if let Some(cg)=std::env::args().nth(1){ use std::os::unix::fs::MetadataExt; let id=std::fs::metadata(&cg).unwrap().ino(); p.attach(id,cg.as_ref()).unwrap();
  loop { std::thread::sleep(std::time::Duration::from_millis(100)); p.drain(10000,|b|{ let s:ingress_trace_common::sample::Sample=unsafe{std::ptr::read_unaligned(b.as_ptr().cast())}; println!("{s:?}")});  for (k,v) in p.aggregates().unwrap(){ if v.count>0 {println!("{k:?} {} {}",v.count,v.sum)} } } }
}
