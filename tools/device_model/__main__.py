import argparse, asyncio, sys, json
import msgspec, uvloop
from tools.device_model.cards import CARDS
from tools.device_model.codec_rates import measured
from tools.device_model.simulation import Run, simulated
from tools.device_model.report import report
def main():
    p=argparse.ArgumentParser()
    p.add_argument("--card",default="H100"); p.add_argument("--slow",type=float,default=12); p.add_argument("--seconds",type=float,default=30)
    p.add_argument("--ramp",type=float,default=10);p.add_argument("--result",default="jpeg"); p.add_argument("--slots",type=int,default=0)
    p.add_argument("--cores",type=int,default=0)
    o=p.parse_args()
    rates=measured(o.result)
    from msgspec.structs import replace
    card=CARDS[o.card]
    if o.cores: card=replace(card,cores=o.cores)
    m=uvloop.run(simulated(Run(card=card,rates=rates,slowed=o.slow,result=o.result,seconds=o.seconds,ramp_s=o.ramp,slots=o.slots)))
    r=report(m)
    d=msgspec.to_builtins(r)
    for w in d["workers"]: w["gaps"]=len(w["gaps"])
    def rnd(x):
        if isinstance(x,float): return round(x,4)
        if isinstance(x,dict): return {k:rnd(v) for k,v in x.items()}
        if isinstance(x,list): return [rnd(v) for v in x]
        return x
    print(json.dumps(rnd(d),indent=1)); print(rates)
main()
