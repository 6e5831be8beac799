"""Character classes and lower case of every code point, frozen at Unicode 14.0.0.

Python's own tables differ between its releases; words and shingles must not. The runs below were written
from ``unicodedata`` of Python 3.11 (Unicode data files, Unicode-3.0 license); a test compares them with the
running Python for every code point that Unicode 14.0.0 assigns.
"""

NUM_RUNS = 3090
PACKED = (
    "c-rk-TZkP=8Lq!B-PLva+`3Qt%$&*0oS94}lbKAWbKmiT6XGU>tZpzWY(Q}l1>N9<b@xRO$x9wo@Ieq%P*C>4Cw*8Uvf?T$EQ*?S"
    "$>0TCH;O)pq9AM*#N%I8-RCknlQ}b!nam{h)#>W$y8VCs_1E`zPe>q2qOAM|2WTj0Kma}kV4$x$_(LFJW1wq14+Pd3P5V`MPfhbS"
    "e^8Y+s8lcfeiJ>-!;;V~)lX%O6b<ZI%_&qN*te=-MXnpGG}D0<*d!=yHKr+e2jzUemvV&j(Sn%Uqd0{R<0_~}DR8P7g$lsf2z{ae"
    "B{dPC;c!60(K8u{XqfSW7y>VlvqLa(l0gK%qEtbJfuxis+8zw&#2G2YI-C<2cAzN0SQR{OyJ<a8CJ20H=r*`RI2D5eGqP+Kp>@S4"
    "RI7{=ssMMfBgwWKNj}R2;XdO99!|-b6^YZckPBUdR={PkqLAi*RrGKyabFKcb#MZyR{*wMSpl|(XF4dLMXnV*NNocMRGzhUi`WqA"
    "57fsd^f-_nuDzIIh43Y)1JwA~5au{j095;%hxXx3s8dfVyIq`0nBp~TF2Ga(i*q$lp2xYi1TM80;&4u<^;C2Y-i7^rGwL8-6YZxm"
    "EMk6!vY^H)m5Uzr*cDoZhPc3(^dla`tPs(#h-%aDcvCM1sPa@5&x!J$@CBVj31`(fggjJg47EAL8))DCb-_<47^T=v6+w<45erqx"
    "R5b|MSdpqjrEsby6=Q0O2L2qLB?fyq+6VVnyto8A5y93=khlX>BFsInma=3jr4-u1G>I}zSm@CRj?S)KOt-MYDEiBSKB3eTX#3)^"
    "i7IZI_If6~4x6AyQZ58;XQdM37B0W7(P$*kj$KL9JNbs<dD;g1QZI`g==9ccAMv3K^}vVT)LeiY`lJpA9v(kN`TGr(Tm~-Y;Dd~-"
    "W?E^gF$v|SI#6DEafy8C%wbw&6-8_7(};t*d;Ftk72O}u{y}j=SRv4CH{I~8qEj4V5E?qdqY2DY$3uEFQp$@wrX{GolGcmiDB}yI"
    "5_%4Lj}maO6c{#DULBd`s9rJEjEA$)g0{WVp6Zz`nuC(}v;^JxJ7Jw4;h&%%pY}r`^rDJJ6;0_^CZ39x=*gLoS1Oey0oP)Dz401_"
    "w~RA07iIfGe9?(PGkR(Av*CQWSf!tatE22l8Af=M2Q_40F)hRxo#I%Uop}~zPVp%|Baep#^cl_k+5OC^AW?G2gINe3)gk7P<``P1"
    "vQGVR8Kfvkh{WTKvyb3;s?ful>;y*}A$>87YjtF?QPz~O7mrNkq)Moag^cR{#q+0*6_5ESS*q!A6oB@4_oxDy6!=KQXZQHEdcaPU"
    "3pJ(pG2rtBABw}i^4JubSO-qI53_)!CC=?B1zsyeFdTYt+E6quLir1!P#*7&YIvEbro)vG6e(YP;Y7p*PRhp8nhuKUxdopFbxtQ!"
    "r0as3o-1PfJUK$k9D|8}{ZRQM&87-MJljY$6wpLezXc)FtFw|G@J)<>5l}NepqV8U4kJrP=luZo>&LQ+aR(A8o!2T&TQ~BxWDlo;"
    "rZ9@4$e3S;@}9Y`ee{#nmmYhvyzt7o>x=$4`q<-m>6nrF0frA8yGO*|Yc}g2yMTI}@_BJdyIO&kZp-D_;BVZlecwE*a`{F6lqj;m"
    "$M=yZ57YXXV4jrJALCzPU$0#mzV<#ir){qJ5#3&g=+h=<`mk3=WOQU7-b;sJ7{*szk{%_e_)!TZNCcEGj=%0hl^UzxoM*mI(Z;98"
    "pn8a_zxtY6af^P2LG0k<BtEM8TlFD(Y#z!#<!C%=POs8|Q@>#HoFZrs$5O*JdNyt-po)Ahp!&|@pOyEg=A!>cdbM<9eC*bR=l@k9"
    "4h{|un*t2pl{#xZgrHf@A3TSKVe%fnz99~q#GKA1VDp=|y{@w3rR=t|*VCWrOcBD%bb_ug{?s)wO?FQQLAx>9Xw-s1bl`Ux*{_Y="
    "Q&v`lKS%UOKte`CD&l{T|2cMXaBy&NaBy&NaCm5;++XY*92^`R92^`R93FB=ObLle1utEWNu)1(i}lZ8{UCWt?Ng`1Sd^?adL5F|"
    "-DHroo$OPbqVJ_x#wv3qrk^hB>cq5}em3cjxna$atUBp5bTwmcC1D5a(7EKUjy)PBc3hvCvT4Yw?VTPGNn>(n$~$47t{y$Z?F3Qp"
    "V(t`>jc%_oPNUe&8u#dy4@>a6lwQ&qmM?V@*4dJ+&s8J&v?Of{$DWBD&`wE8;sI0IW)q!cY#Aoo&fFKYf>uSNLy|4Avz8>EE{U>%"
    "rdyIL8k?2sLSmb-CFwFo<}G^Ghnkpr2+BT_ZszH*6zQ(gH<=|HA67bC55HwkQ5414QUBAs&hPKq5xDo(8QZ6;kGJZDYNb=_sQQ4|"
    "gA!-)@se4LO<13eOx7DN&7r<)huG+_)kfLO=#EFlZ92B+-4b)gRY`u-4T~GrPcjO~NG(pg5{XGS+qaYDGy9NlNSv<5IvJ_k-m8(5"
    "-NlTBtXD^I7YA#nZOa@yMV+@OV&=>4QJb}`ikU>axaf|du^Et%_E|H;Y1PY(93{qNdF)C^9uniW$&IKaci)vk%*KfRQ7<Q2k`Zif"
    "?>rP{yOd<@SrD<3<0R_cy0mMzN!s53Y^Kh3o5rLkV&`G0z5kgRv(O)r-g9krN%956nF+O<M(x*!KBnk8=qq0k@)WHQwBD5T%+~t~"
    "lG!lMUX425q^+6SRpcq&bc%Z42Mp0=X!iS9XqswRXIfnMh<@psz5PaKzXI}0Admn27kK|QdG!?_uihlfw!`o7XK%mLkAKh^&3|hr"
    ")9ITp531GY`qa$<`M?a`-~Q;iPGtw?$y9uXOq2a&iM+!YR<0`KCEfo`6n3#WfJ$V81}+2H&eU-=hX)5AGHFoUkoQT=B}_el9hpvV"
    "xrE!q{_NcpY$Bce58kjg`mVX({svxOep44efAx(uE&Xl0PX7?Iz3r+>Mu!cPr}z{!hBJNs!d|~+3P0Hv4(f36mSLS5tu<te{Pn**"
    "M)~ck{a*O~^FMxp{B!y5-&)yn<3}%dSu+nrI~C2%4WDUehyz*LCg$4BXga0tAtraL;;kJt%Yd?4o6%|(t7q?}#;q)C5eJ7IjlCuf"
    "im%=;HUEQY7vR=*aI^Vk?9yr{(z)ksXzx02<;B)OOL*<IH99T-dpRrJT)uhJ7Tj6dPCV1|ba~Z&mo;>L$Ny(+U4F)y(ZRvNeG#nw"
    "4)4AQ92|BcCAD^kn!Emspfw1cb|z}&MaOmb(bHOY+bP_jejDFvxh->WaByD)?u)>|!F>_9F9P>P;JyeP92_1b{2y7wOHK"
)
