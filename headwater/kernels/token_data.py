"""Which code points an English word tokenizer cuts at, and which close a sentence: facts, packed.

Found by asking spaCy 3.8's blank English tokenizer (MIT) and datatrove 0.10 (Apache-2.0) about every code
point: the tokenizer that datatrove's English filters count words with. Runs of equal flags, in order.
"""

NUM_RUNS = 1638
PACKED = (
    "c-rk*O^g&p6t3@8b$4~oFS6{q8|)c2z%H=Ju91HQ+(0mffIy<69F_<~LkN>Vhz8Wf2__zl#Kgonkwg<QCLX+akZ8iyiw6@ub90ZL%*Hv"
    "aud2FdXP9vrU{MV7UUyAZ^?UVRz4yIJraPo%NJ!c?BKtFh#?LUCh~~SJc>uwq(6~FI+l;$Wmt=dAlxcZH=`(woJrVb$>eh*LM&hn1AZx"
    "Q>^4QM^+=7Hbc65;B1aZ`e%ERVoC303eO0VTW9;o<hjPtbKDiX%1&u%tjhU-d@C&Ajj!cyL6W^(*IPj3orOiFkro;+^Wdf%v?$D4Qug|"
    "j|zkzG-^Z~$xIpF?IR3Y_sTWx;6qea>IC7h8B?kf-Pjsr~c{)D%I{KruRr)9lE8xtBiU4bdtI57@}cpA5$|&1=&)>@uP-q_@;|k~?UZ&"
    "R}fyo*afx;6bGD{+lRDvT%}|9i1hPtklTHl&2--T^v{tC!Ksh2|qHFw=mpBp=W_joVAj{6iSo$Nvl2z=pf?3QGd^1=HUK*;5(M_u}Po7"
    "Y(5_Is6@Ibs{K1vnP_|&`6E=O32Z!;RE#xaRESRac{WkOhmQkUgCz=whj1kOTU5+C2uqeCcCi4DJkS(ghPpy3DzD5IOPN@sP>x0lJ0Wi"
    "D5?3~F2E&<NW$c|bpkLb(33-o^)U72e7hKmf*ksy;^(wOAq!(zEMJIp_I2Mp9(nZJtd7O&0W1Z){hrVy07mt0s;uIC%7|jBYMEzxRj+p"
    "$Ic&QJRJy#kYXp`6>nI4#&%eUDVML8n*WVm$+Kjt8ASpNmaaTULF60f0zqEA?jXE72?21is8UwLEdNAgZP^>I2tob{Yp?<JG_Q}~>u*}"
    "!Y~i;J@GI$?QkAKsOy+kn(?lmT{_CB3U8*V1Krj;^EPU8D<i8PAYZ?E67pZ7;rOp{YNk5qip#{S?G%`@p2c^%uVuo7EGVPaShs{zCh3_"
    "=nwN>Ug$51y1{_p`+^QtwS<5row>o{-<^C*Gx`E{<-Xtk*wOHBY#xKhq7t|CP;BKMskrabK_I_k8YO#D3))E9`&dTq7J<Vp%<S83ID0t"
    "f6Y1u#Ub@S$HTf6v^X0;+X#))X?-T|1wiO9bY_&uh;6M_Aog*)w8Jv0xvKLljN8P3x{HE$P3+E+*E<4w)T18ts7LpW^1TrBs7F2OQIGB"
    "~RclpT;^tCqT8JCfDymgcsS4)WOm(`-0_G1?01=29-+`FsU!JUqYDH9L#7yM@=P7owGBuN2x96!vw$CxHG<e2xGIE2!blNXVftYQO$rV"
    "qSjLdR7Tc0(L=a~74={M1=dCWBD^h7F|%mi-X<bQF{!p$?TFA^tOP0Uk}+)Wd$lF6oL9!@szD{8fxDVX**9>E=QlABt~Y>?be!U)yoGt"
    "w;C=31pwPUjq`_^Q{rQ?J+O>M3^SQX~YziZpZ30U?VT$TsiOW?`)+F#iL39Yk%}ST+qT@I`A?*$mp_&z+sj6{nue-IAwUOb2at?}38u<"
    "${(<T^L{PuxNkOl;^I|>Y_=^aTHM$*(Q!eL_~1}J0@WpZ7rKNYP^=yng<%m8^;HmZ@IcsSXBF3KsN@->C!xE_t9y^CguoJ<{1t<xA_>{"
    "L&*l;5DOZGSm?ZAV^E+}vY)m?7`;?7nGtSbn^v7PDK!Q<b%B=)OJT{0$8Mhg2OC4Nwi5BYcrueuMonwuA!VT>?XF0hh`GBp=v@=JO4Mz"
    "y$*GY(kpQKGjZUSJh#B-4zw+84g&#v?N(`7xm_Zn(*s)l2i$S!0Z+EN3_OdH-XHf&$sZP7lN+T1CxUtnV32_2yVNsmu=tNPAFb#`k7)a"
    "YRMrM-FN1i}hLgbJ?pN7_&(xQ=*xT$aInK^b<WnD|_CU(UXi-rR>q{%3@M}e(&2P&s&mh(j_Vx_HU-r0;7hF9uZhtD!idA@_sQ-=QrUr"
    "X*w"
)
