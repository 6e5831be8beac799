"""Registries that the detectors of personal data check candidates against.

* Top-level domains: IANA's list, version 2024052400, lower case (as the package validators 0.36 ships it).
* IBAN lengths: SWIFT's IBAN registry, release 101 (as the package python-stdnum 2.2 ships it).
* Calling codes and the lengths of the national numbers under them: phonenumbers 9.0.43 (libphonenumber),
  the possible lengths of every region of a code.
"""

from __future__ import annotations

import base64
import zlib

_TOP_LEVEL = (
    "c-m!|i;}Y})2>g26L_m8nau8RP*I5+3}6y-^#66EGtakbRY`Y)Y?`L&jaqAswQ(`Fs#HSGLU->#HDweLI@<*B+Vr;a#`2=Jjhi-b"
    "?dH5jCn~ISwsZa;GC?!2&LJAx@X*k#BV8EaI!ffV%QIZGJR>Fgni}sqJM?x2ySZj1*7dadSglE@4Y772vSZlL&=WlR%2rl*u?!l="
    "*3Wi+iAvdKCqnJXYA|hKGFFd$1!kC>mY>~oi7utTdTS@IVUv3T+A^T9Ii>7kqxx*eE&G}=a}$GSv-52g`&yh$2AErH%#$l(Sr!#Z"
    "_r|l@=tfl#Q?!-9B*DeHXWLPNjtk4htU^C#NDU3i3#3qc_C_P`b3eLFYewj^W8}(HXRqz8jW3`aE0`tLw1mX4HTOECHHQM2>%jwJ"
    "$4{nX7cZSN!bQRxz&9&!E<yn}0s|nb)NTy3E!1eY+Q#OWP9j_zLKe|kKdU9VijxsBxO|Xn4|m|r#o3^r6&hJp46E+UTz3@OnHa8|"
    "MXJCx!<uvOfSgCCN*q1i9GeuVR<%L5recPk2a$SH>5*J2&aU!<h`B2u099V5x|(XV^{_)!wL!_MG1LP}nYHQ|I)N~;uBerHCLWlZ"
    "9;Skkc|i@(Qd*ca6uyJ&BMWJQ(6Tp_vI>%DP?s<iP}m8n?gg_S3gT2NNiwY2-?UiZFqkHCKNBic!DHvtk9RTH<{^$_7_?Rlxi5H4"
    "$&K*A!(6K$n;p7H%bNVG%TOe@zL3J*RP2Qs^s6^qgc_x-ZR-G|N&$C252Hi)H5a7TT~fzs0n9<Ii_76r2%pQig2gHdqhjw?uOoH?"
    "SekXVJ1T7gNz*31O=1Ri11PIFiB&`&Mqis6?X5Y4y3%CS8zcLrDIH^^XLZX%ua;MgWI~J(7Dnj6(W7KwE!k_G-dQ%)du*NuN1yV<"
    "`9g(Beb%UXc;%Pq?JR<;z#Fe4s@Zg-nSJ&J)Pk%qn3~qndbEe`4AfrOhhF$u{e*Pv^~h1~ufq!G<60FkIVuRBeX&rm;v=9Lz_xXa"
    "3z(g*;Lu6#XdY!MS6Re57goZw*!jS*bX(RUwlF0JA1G_kq;tygFgB`S>I+i=$<(>vSiFJy?ivjq1rQ+3GOERSL@l;1Wga07SYs0B"
    "7{Z#BqicLVP_ZvN3BwwM*~XB7i-KvrxOyE}K~z^BFU=lD=DVBvVd|&B(bU@%dAS9^%QSes2y7@bE~By7)<%v5ApSvVosA4ZQ;&mb"
    "(A9>w4uuv#NJ47t&|1*w?~d(3sK*$5&ZSusyD8KWm1@w+GQpftCUEivbgbm=rs;X-?S$Bw*t5~bcjXQ>KDs&|C}<h!7y{jiyV&tu"
    "lg9JvY8n`xOfxSA2j2wT7eL;+!HzXyD%QEdz%<Bl3=%_xebZ!^Sn&Zs+8M4xqT3o#9n;)#;LV+BUdCZwdtf#wibD-u;|2>{Rk)fu"
    "F9bt4;8<@2x`>Lq84J3BIt~f8e+db_+*$6DPSPz&6Wmt6$hR7G<@8f&ja)YMNjFOI|H#U*@*2aP<5wSijJp@F?4G*iTnGHW!`FgB"
    ";s*VO1MZ3XrbVGcOIQMcT|j(z9Rw6RJz|9xF;LVRrvhZLT1=D{1!vPDi6_uCm3&I;V#Kx-thlI!^imftAcPu5W+I*$3zRzU*q4^*"
    "3fOHu)YPDT5S+Gv<koUyD8-z&SJSen%t;jLdL#f=CCG#cKMK>@4lBb!D5VkDy);pnYEc{E{+1O(T-AG>oBeQGd{WD_Qhz{lvq$D_"
    "WOO97l#C+E<2kuDQ`W2JPJw3?re8V65@fb(t}qwv=1pgLMwL;wNjMa^E+EXVKmw{7xkw<oRXjNIuHm7HZjOnhHv*DT=R#C_YdR_&"
    "Ja@h6SkSk*04C)M6j=Jh#7GPVr0W<eaRq{#iAO5ZO~e`9q?V`Q3U>j6(!fo?(F!cVi-Rz-C?cjb8}~*;SAeGGmUThB?xushnT`(8"
    "?r{Ue(kuLgz+@QN8WxIvVPp(-kx>j14lkKy<*D&W-Kx#5D4JlFN9|S&VD~WGz8>WUOc=q==xz{am=c!tY_M<Ix`5&?@PZ@yzoX)="
    "dp9lunAyQYl%}X->HX5PpWY{Kiw?VIX$8Bzznh-929}vjKbxN5iZBlU-LTUnqC{OiuC;Ls0ud#Nr9vIh%^3S0`)Gl&&}ok{dWE|J"
    "I=sG&&kBA(<*@p&mhKPJv-L#G+0zFO*RI#>8<90o+U<=exbroAJeSeqR0tl)oxDSBJa@(qggS;<J@iDDkwHxbKpO-qKY9+z>tU9;"
    "A&!imb^OfTRzv_nS9nE;6!^}#UQuf-HlR>KSp}0<ZXG+N#)*Q^)+6sAj`fRY9M{L+42SEZ3<MhEleW)#h=*e5YGn%OOa|ex_gCAI"
    "r+|pQuXSavj>j#4{K~+G8&R?=OI$Gw*NKOh^VM8w3B;BFsnHdgUjsdPyG&d*Eai1U@2)H7C^VzB(F}HN5zWw$v=ELHvBvE<t3ng8"
    "z^8P+RF@cJv?aTt?ak1c0mx8Nq`{*d17|?U(QuarLWW**`v)Cph74{LoaE2JNs;le@J!6K@QNz7ZXn7q!y1PDHVqFmY&?OyX?Pi8"
    "2{HrgpTbkc=CHe7G_#Eymn~_+sB~#8nc{t~K4p?IBQj^;tfDv;6hoz^hsvhjl^JU@vLj+bRCRO&hmjW7MmvCH7l90RPj2ei5!7?A"
    "+#A|GLAt;{{ZTFDP3y`DNYzH=KciQwJbErDTLv>BN*WN;C|xAQPI`Y=*J26@e@3y!ttVEP3t)ZS;3y<!FyEu1MZHzvBgn)-vn->^"
    "Kc6--iXm{H8x@4Q^2|-;@R#HIbOI|{H{K1rPL_uNr2+X?KtaG{2ggZGR^*J|E@8qXV+PcVs8Df7+Qv>L;pp{61S0kNf&i8Exq<lD"
    "Of?Vsl(0?{D>|cKn}WVgP7}J3w2T}as=P(lwJVlaSxt#^ro<rD?9D_#=YhnmDd1}eBPg?)#IG+Ut(APanFcfQ8eN#g*2KfIOw67z"
    "Dg|(&6P^YjLTz-zGH~BPVq5V#M+0M%1QlZL6xU2-nb^NcN-YrU4HaV<Tn_~U$IYH@W@0F<+5yaEX25+<YzzxZ2mm5SnHa-dPcyOL"
    "%gmOiqI6*siDWQXs3PdTnHkAq2oc)sgtAI;FJPjRr|=_0)iIUWquD)F65yE&IAY+rX#d>ujD};?dC&M3BuefCEhPuAb26(d>-v=J"
    "ydyYa5S@bT$Bbmu4WUrt`Vzt<5;xCqAm$^lP!*1K-eCM?bP8BK7j?tQw&Wp{^4NzpVYC}7?Pxb7LGcR*Bxgnk1Q6gkzy-ytN??G6"
    "V-zVAM;l@ZRWUK9*ib}`esv1iL$XBJ0c9yDn{e+9Y15*^C6TjS3%ct&L=r53sPG_mxEXyxTWS&`VhB=ov$Q<^#dem?EX+tMJXunv"
    "rEe%+1_3PIf#^<wB{JD|TCX>vZnMa21G1(C;lNa98a&~mOSs6yEI2a7{)>OTV4sGONAWjsD?m}bg3M)Hr}D)Hf~h8h$zIT;C6FsE"
    "<$K3M=zxC!ljoPOUJH%!_{b;f>CGPLlUtyexD=J9fIY3%tI!H`>L}v}J(YgH?&lyk5!vn8@IpvMDG41mK!Rd<vh)S<K45b*H*0Q6"
    "c**CnZ$fa$S!+|#>SG;VK00!+sJwDdXGAJrD|iFd_|9bHq$qnX0D){`$#kRZxqZ<o7cOuXVjc2~;tgVHnR5ZkTccYP1cJB(LTfeZ"
    "o2ZF}Kk*?)A`;8+IFQCY^?k`8+Z_;v<AtDt>LZ06`Nbe)0@Q&Kp>d)+DPjy<2H|w4%gWPL>~AF~izEhIxA=hDZ5_7NB+FxCajQw6"
    "p#%^I_du4Vq$NpTmVi?#Uq?i&NR}Jl-2L#2>%eJhH`D_eSi(UhW(Fk6UGqGHNld`~PDC}S=Ap_4UE3<(hn#$qg}LFl4&4h?@O_|F"
    "%+&qE#uu3AuU4I)2s_HDB&W~5LbSMAp<O{r1Cw)b>PDHjqy*W>zF=9HUpXxBL3ygso1`nTLnc$`j?As7xCqj(*B1!5Q>!0n0|!l|"
    "&|IKgL<kZxA%=iGUY>y73Uu-ciTJ>zt4XvIZ&BcbpooIuNGvgyc_tox!A_GrQ=-#cw<aOXP}kZ@C{AC#uNZt052X<)5Pm0#QgGd`"
    "VUl?Sunw^#Nx9h*^HkI{DKSX&*U8bDO18K{;8J*&=O{O5UrJO-)KjiicAL!gsRzzb&6rz^r?4Q`O^xLfx)2<c2#U}#t<vSRF3Tum"
    "P>8Ld!q^&HfldioT3@Rqb~ou^vkv{?#VzN@%dL@*PFOgHmrXB|xw+YLzdeXk$d+U?fS4_VvMtU!6*3Cupw~|o#?(BZhKIr00oJK6"
    "VAl7)%_z2EHKIy&nDK-l!u{Nu+!-!&#?ogpJVgx!BMl51J<9hsx}(pHs*7k@bs&15uRN1|!poJy^uu1`6?{zkmOuc3)5t;TT@J+5"
    "z<>qHsH5bsRy36eAqQo0SziQA`GlMU5xCkn8emPIzYCP+WhKc6an}wDl9BnN{zbz%5>^232EUnCLT{2N%B-!d2~EWB=R1{$$uF~7"
    "vlbOvF$HU9RwzXmlh9o=b8S}wi4`HN2nFY~((*Eh^=|jiUkPefbykMen0sw7G<O04-t7O^MBuIU0kF(U`VwWn?wtG`<az8>-MozG"
    "-K(v9V7(K@YaVXp9cz2{u`47t^Y{XG_u|Fh88%wXppy@{^Mr=@;T}f4!IKG;8RgsWgl}Ak`)VF?MuO#bgQXk~_EJC>)I-W$pn9S<"
    "O0Ew4`(gdzD*Yz_m3LJ!D-Zk_r5xkK`6>wVx-}0{c#3%_eSWZ2z=#i<h(nmntC2JVNAyti1Ss*%1GoMNVlfTl`p{DPbfC{4C8`ui"
    "f+GuK@id-`^WX+N^>5|rqM+~fZ|}(}&-uUqPN(Wpzc)Kw4`+9(cKUXEoZoGs&#8{rpSsZRZ!vytJ6Wat_BQQwlP;I{Zl~Q__4W4U"
    "_DcUhW0&XpJrweCuFuWSKK<pRiXZhh{#AbaUp{W9(?K>>9Ny}E&P!Jj;}r7aQhl}AzSVoTkB{5qa_)ZV=f}RWkF>sDu0QXeRhN#J"
    "`89p)<YyaS-^ZBG+wJH3vwDB-%zVGu=Gi0EqY}<1`%B+k-Nb*@<oc%it33AUzPC5~_IXJ0=gq#``j>RSgx_cXX{y`#=;-ptdELn&"
    "BI3Qdx;#GLK3W&|JyrE^s($Q86WwK>wLaPVzHWW4;@3fPrqz4(OF!zT%lia%cd1alLXLG`zd8F>ox8LB>FT4$D}Mf5s$V+2<zI3="
    "?>(B6t*^)I&|_ODcd`dd<hu7J*FSr2*WS19@4nD&oiFE~T^ZWGayuifzn#zD^+%t6tDndEkm>uc_4RX**W1_mkWV{4-ak&eT-&8+"
    "-J#d*t3KC1?pz<WEqyniKkL2Qb*MW(pO^3bWmgaJy?xvF(Yb%R+YRqFAG7y}*LCkiEq~SDZU=qL)<5(2>9Y6or|Pph*-v{u>QnqU"
    "z3-RMhd2AROW=AU6#J#7T~^o6$LZ&|T-Wh-`F@+v@u=S8>HBBj$56-T*H?3TUUq>DOMILT5kPMrU%&L4-}lu<&TnUR?5c_l+UEOO"
    ">QjeuJ*xJ%g6_V%YyO|=r9FMxzxr4GR#o%czXm&f+2gELt<F{RSLsjoy}u6eUyJ{-ukN;d{w;2|{;OO5rmOnX|3iNrM?tlIvkb1g"
    "zq<WuUQPI`F1Jr6`ZwIg<-)bO5M~@L-THn0d+jf-cF*Ovx{T-cZx{K!>Hm1n&vW%lKQDFjW{;|We*c^f!Er~|%W)Z|XTF{GqnhFC"
    "!@io|iu-Yg=%~c!PLWdV#O?mo{-e^{8)42~-)`IaIE3(CKQ23`0k+%kcDG?6uU|i(`$`MP-TqR$1}t5b-kN>flG1h<p4(ULj)`wS"
    "*R49XaH|J<TBf7&w7*@RcHdX*Z}*?i{U~C%uixLhOya#hvBT+o-%<MccVm)EA0L-}NdA1QK8`sv#%k}K{q6GeyluN~tn<2Db_YZ>"
    "F?DWE9I2wZ|LR=*|LsH?|1FQ>MSolGJGI`vKMz;;xWw-dH-5MM`qAiv$kCWCZ@UN|9V%D<lH<YPv%h_uk13u*eYWF!zqvz^)X<FY"
    "_QSciUAWs1cjmT}Z44Lx`L*llhR&VsH0`JUYU8QcJOa$;_A;BT^>b^pq+mb-Pcq0&k<Qa>&TOF}kk(hVEp!$zgq}`Dzkn$v2;8#S"
    "81%9{MDhv5CSUqb_adr#P3EOk`?b1~@4g=Y2f4X<9s"
)

TOP_LEVEL_DOMAINS = tuple(zlib.decompress(base64.b85decode(_TOP_LEVEL)).decode().split())

_IBAN = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 "
    "EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 "
    "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
    "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 "
    "SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)

IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN.split()}
"""Country to the length of its account numbers, country and check digits included."""

_CALLING = (
    "1:7.10 7:10.14 20:8.9.10 27:5.6.7.8.9.10 30:10.11.12 31:5.6.7.8.9.10.11 32:8.9 33:9 34:9 36:8.9 "
    "39:6.7.8.9.10.11.12 40:6.9 41:9.12 43:4.5.6.7.8.9.10.11.12.13 44:7.9.10 45:8 46:6.7.8.9.10.12 47:5.8 "
    "48:6.7.8.9.10 49:4.5.6.7.8.9.10.11.12.13.14.15 51:8.9 52:10 53:6.7.8.10 54:10.11 55:8.9.10.11 "
    "56:9.10.11 57:8.10.11 58:10 60:8.9.10 61:5.6.7.8.9.10.12 62:7.8.9.10.11.12.13.14.15.16.17 "
    "63:6.8.9.10.11.12.13 64:5.6.7.8.9.10 65:8.10.11 66:8.9.10.13 81:8.9.10.11.12.13.14.15.16.17 "
    "82:5.6.8.9.10.11.12.13.14 84:7.8.9.10 86:7.8.9.10.11.12 90:7.10.12.13 91:8.9.10.11.12.13 "
    "92:8.9.10.11.12 93:9 94:9 95:6.7.8.9.10 98:4.5.6.7.10 211:9 212:9 213:8.9 216:8 218:9 220:7.9 221:9 "
    "222:8 223:8 224:8.9 225:10 226:8 227:8 228:8 229:10 230:7.8.10 231:7.8.9 232:8 233:8.9 "
    "234:10.11.12.13.14 235:8 236:8 237:8.9 238:7 239:7 240:9 241:7.8 242:9 243:7.8.9.10 244:9 245:7.9 "
    "246:7 247:5.6 248:7 249:9 250:8.9 251:9 252:6.7.8.9 253:8 254:7.8.9.10 255:9 256:9 257:8 258:8.9 "
    "260:9 261:9 262:9 263:7.9.10 264:8.9 265:7.9 266:8 267:7.8.10 268:8.9 269:7 290:4.5 291:7 297:7 "
    "298:6 299:6 350:8 351:9 352:4.5.6.7.8.9.10.11 353:7.8.9.10 354:7.9 355:6.7.8.9 356:8 357:8 "
    "358:5.6.7.8.9.10.11.12 359:6.7.8.9.12 370:8 371:8 372:7.8.10 373:8 374:8 375:6.7.8.9.10.11 376:6.8.9 "
    "377:8.9 378:8.10 380:9.10 381:6.7.8.9.10.11.12 382:8.9 383:8.9.10.11.12 385:7.8.9 386:5.6.7.8 "
    "387:8.9 389:8 420:9.10.11.12 421:6.7.9 423:7.9 500:5 501:7.11 502:8.11 503:7.8.11 504:8.11 505:8 "
    "506:8.10 507:7.8.10.11 508:6.9 509:8 590:9 591:8.9 592:7 593:8.9.10.11 594:9 595:6.7.8.9.10.11 596:9 "
    "597:6.7 598:4.5.6.7.8.9.10.11.12.13 599:7.8 670:7.8 672:6 673:7 674:7 675:7.8 676:5.7 677:5.7 "
    "678:5.7 679:7.11 680:7 681:6.9 682:5 683:4.7 685:5.6.7.10 686:5.8 687:6 688:5.6.7 689:6.8.9 "
    "690:4.5.6.7 691:7 692:7 800:8 808:8 850:8.10 852:5.6.7.8.9.11 853:7.8 855:8.9.10 856:8.9.10 870:9.12 "
    "878:12 880:6.7.8.9.10 881:9.10 882:7.8.9.10.11.12 883:8.9.10.11.12 886:7.8.9.10.11 888:11 960:7.10 "
    "961:7.8 962:8.9 963:8.9 964:8.9.10 965:7.8 966:9.10 967:7.8.9 968:7.8.9 970:8.9.10 "
    "971:5.6.7.8.9.10.11.12 972:7.8.9.10.11.12 973:8 974:7.8.9.11 975:7.8 976:8.9.10 977:8.10.11 979:9 "
    "992:9 993:8 994:9 995:9 996:9.10 998:9"
)

CALLING_CODES = {
    int(code): tuple(int(length) for length in lengths.split("."))
    for code, _, lengths in (entry.partition(":") for entry in _CALLING.split())
}
"""Country calling code to the possible lengths of the national number."""
