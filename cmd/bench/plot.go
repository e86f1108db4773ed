package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// panel is one picture: what x costs in time and memory, all on log scales.
type panel struct {
	title, xUnit   string
	timeOf         string // what the time is of
	xLabel         func(float64) string
	x              []float64
	seconds, bytes []float64
}

const (
	panelWidth, panelHeight           = 460, 300
	marginLeft, marginRight           = 62, 68
	marginTop, marginBottom           = 58, 44
	timeColour, memoryColour          = "#1f5fa8", "#b4540a"
	plotWidth                         = panelWidth - marginLeft - marginRight
	plotHeight                        = panelHeight - marginTop - marginBottom
	axisColour, gridColour, textStyle = "#57606a", "#d8dee4", `font-family="system-ui,sans-serif" font-size="11"`
)

// axis is a log scale from one power to another, over a length in pixels.
type axis struct {
	base     float64
	low, top float64 // exponents
	length   float64
}

// newAxis is an axis of whole powers of base that holds all values, at least two of them.
func newAxis(base, length float64, values []float64) axis {
	a := axis{base: base, low: math.Inf(1), top: math.Inf(-1), length: length}
	for _, v := range values {
		e := math.Log(v) / math.Log(base)
		a.low, a.top = min(a.low, math.Floor(e+1e-9)), max(a.top, math.Ceil(e-1e-9))
	}
	if a.low == a.top {
		a.top++
	}
	return a
}

func (a axis) at(v float64) float64 {
	return (math.Log(v)/math.Log(a.base) - a.low) / (a.top - a.low) * a.length
}

// ticks are powers of the base, six or so.
func (a axis) ticks() (values []float64) {
	step := math.Ceil((a.top - a.low) / 6)
	for e := a.low; e <= a.top; e += step {
		values = append(values, math.Pow(a.base, e))
	}
	return values
}

// svg draws the panels, two in a row.
func svg(panels []panel, caption string) string {
	var b strings.Builder
	rowsOf := (len(panels) + 1) / 2
	width, height := 2*panelWidth, rowsOf*panelHeight+24
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<title>What growth costs ftpnode</title><rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%2*panelWidth, i/2*panelHeight)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	text(&b, marginLeft, float64(height-10), "start", axisColour, caption)
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder) {
	base := 10.0
	if p.xUnit == "bytes" {
		base = 4
	} else if p.x[len(p.x)-1] < 100 {
		base = 2
	}
	x := newAxis(base, plotWidth, p.x)
	seconds, bytes := newAxis(10, plotHeight, p.seconds), newAxis(2, plotHeight, p.bytes)
	fmt.Fprintf(b, `<text x="%d" y="20" font-family="system-ui,sans-serif" font-size="14" font-weight="600">%s</text>`+"\n", marginLeft, html.EscapeString(p.title))
	text(b, marginLeft, 40, "start", timeColour, "● time: "+p.timeOf)
	text(b, marginLeft+plotWidth, 40, "end", memoryColour, "■ peak memory of the node")
	for _, v := range x.ticks() {
		at := marginLeft + x.at(v)
		line(b, at, marginTop, at, marginTop+plotHeight, gridColour)
		text(b, at, marginTop+plotHeight+16, "middle", axisColour, p.xLabel(v))
	}
	for _, v := range seconds.ticks() {
		at := marginTop + plotHeight - seconds.at(v)
		line(b, marginLeft, at, marginLeft+plotWidth, at, gridColour)
		text(b, marginLeft-6, at+4, "end", timeColour, secondsText(v))
	}
	for _, v := range bytes.ticks() {
		text(b, marginLeft+plotWidth+6, marginTop+plotHeight-bytes.at(v)+4, "start", memoryColour, byteText(v))
	}
	line(b, marginLeft, marginTop+plotHeight, marginLeft+plotWidth, marginTop+plotHeight, axisColour)
	text(b, marginLeft+plotWidth/2, marginTop+plotHeight+34, "middle", axisColour, p.xUnit)
	p.curve(b, x, bytes, p.bytes, memoryColour, func(cx, cy float64) {
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="6" height="6" fill="%s"/>`, cx-3, cy-3, memoryColour)
	})
	p.curve(b, x, seconds, p.seconds, timeColour, func(cx, cy float64) {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`, cx, cy, timeColour)
	})
}

func (p panel) curve(b *strings.Builder, x, y axis, values []float64, colour string, mark func(cx, cy float64)) {
	var points []string
	for i, v := range values {
		points = append(points, fmt.Sprintf("%.1f,%.1f", marginLeft+x.at(p.x[i]), marginTop+plotHeight-y.at(v)))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(points, " "), colour)
	for i, v := range values {
		mark(marginLeft+x.at(p.x[i]), marginTop+plotHeight-y.at(v))
	}
	b.WriteString("\n")
}

func line(b *strings.Builder, x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func text(b *strings.Builder, x, y float64, anchor, colour, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", x, y, anchor, colour, textStyle, html.EscapeString(s))
}
